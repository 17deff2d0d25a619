"""Work units, whatever is done of each: what one is, a runner's workers that do them, the marker that says one is done.

May import features, features.dataset, features.engines, features.images, features.places, features.store.
"""
