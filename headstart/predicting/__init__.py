"""Predictions of many images, by the work units of an extraction: the parts of a table, and what says that it is whole.

May import features, features.dataset, features.engines, features.places, features.store, pipelines, pipelines.units,
training.predicting, training.runs, training.tasks.
"""
