"""How good a run is: scores with intervals, plots, reports, predictions.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store,
training.evaluation.plots, training.pages, training.runs, training.tasks.
"""
