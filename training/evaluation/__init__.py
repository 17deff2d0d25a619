"""How good a run is: `headstart evaluate`, and its report in words.

May import features, features.dataset, features.places, features.store, training.plots, training.predicting, training.runs,
training.scoring, training.tasks.
"""
