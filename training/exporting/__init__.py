"""A run to a model that other programs load: one file per format, checked in a process of its own, with a card beside it.

May import features, features.backbones, features.images, features.places, features.store, training, training.comparing,
training.evaluation, training.predicting, training.runs, training.scoring.
"""
