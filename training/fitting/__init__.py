"""One training, whatever it is of: its input, the optimizer, what watches it, checkpoints.

May import features, features.dataset, features.places, features.store, training.runs, training.scoring, training.tasks.
"""
