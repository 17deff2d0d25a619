"""Which tap of which backbone transfers: linear probes.

May import features, features.dataset, features.places, features.store, training.evaluation, training.pages, training.plots,
training.scoring.
"""
