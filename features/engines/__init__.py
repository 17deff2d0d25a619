"""What runs a frozen backbone on this machine: engines for TensorFlow, OpenVINO and JAX, and the stream that feeds them.

May import features, features.backbones, features.images, features.places.
"""
