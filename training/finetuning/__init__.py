"""Fine-tuning: where it starts, what is unfrozen, images as batches, and the run it ends in."""
