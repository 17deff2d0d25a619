"""Two runs' answers to the same images side by side: differences, and the images that they answer differently.

May import features, features.dataset, features.places, training.pages, training.plots, training.predicting, training.runs,
training.scoring, training.tasks.
"""
