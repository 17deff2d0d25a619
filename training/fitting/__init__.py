"""One training, whatever it is of: its input, the optimizer, what watches it, checkpoints.

May import features, features.places, features.dataset, features.store, training.evaluation, training.runs.
"""
