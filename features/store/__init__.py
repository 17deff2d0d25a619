"""The feature store on disk: records, shards, manifest, and every way of reading them.

May import features, features.backbones, features.dataset, features.places.
"""
