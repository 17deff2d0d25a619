"""What may be wrong with a dataset: one module for each kind of finding, over a store's features, names and images.

May import features, features.dataset, features.images, features.places, features.store, training.pages, training.plots,
training.predicting, training.probing, training.runs, training.scoring.
"""
