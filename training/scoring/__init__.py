"""Answers and the truth in, figures with intervals out: measures, scores by class and by group, comparisons, thresholds.

May import features, features.dataset, features.places, training.plots, training.runs.
"""
