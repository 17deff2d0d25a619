"""An image file's bytes in, pixels out: kinds of files, decoding, resizing, augmentation.

May import features.
"""
