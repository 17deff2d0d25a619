"""What the images are: sources, labels, groups and splits, and the table that a store keeps of them. No pixels.

May import features, features.images, features.places.
"""
