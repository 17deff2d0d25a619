"""What a run says of images: classified from files or from stored features, as rows of a table, and which to label next.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store,
training.plots, training.runs, training.scoring, training.tasks.
"""
