"""A run's folder: what a training leaves, and the last check before it does."""
