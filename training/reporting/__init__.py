"""A run as one page: what training and evaluation left in, a self-contained report.html out. A module a section.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store,
training, training.evaluation, training.finetuning, training.pages, training.plots, training.predicting, training.runs,
training.scoring.
"""
