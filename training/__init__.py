"""What learns from a feature store: heads, and `headstart train`. Never Beam.

In its rooms: one training, its run, evaluation, probing, fine-tuning.

May import features, features.images, features.places, features.store, training.fitting, training.runs, training.scoring,
training.tasks.
"""
