"""One training: batches, the optimizer, what watches it, and checkpoints."""
