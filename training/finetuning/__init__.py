"""Fine-tuning: where it starts, what is unfrozen, images as batches, and the run it ends in.

May import features, features.backbones, features.dataset, features.engines, features.images, features.places, features.store,
training, training.fitting, training.runs, training.scoring, training.tasks.
"""
