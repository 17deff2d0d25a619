"""The networks: their table, each built from a name and weights or from a user's own file, and where they can be tapped.

May import features, features.places.
"""
