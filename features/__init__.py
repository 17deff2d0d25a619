"""What a feature is: images, backbones, specs, records and the store. Imports nothing of pipelines or training."""
