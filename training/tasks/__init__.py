"""What a head is asked: one label an image, or several; what that changes in a training, and what makes no sense for several.

May import features, features.dataset.
"""
