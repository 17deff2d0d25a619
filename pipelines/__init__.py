"""How Beam spreads the work: survey, plan, and one shard per work unit. The only room with Beam.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store.
"""
