"""Extraction by Beam: survey, plan, and one shard for each work unit. The only room with Beam.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store,
pipelines.units.
"""
