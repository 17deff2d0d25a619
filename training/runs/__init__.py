"""A run's folder: what a training leaves, and the last check before it does.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places,
features.store, training.plots, training.pages, training.tasks.
"""
