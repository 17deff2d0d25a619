"""What every page is made of: the document that needs nothing but itself, its elements, plots and small pictures.

May import features, training.evaluation.plots.
"""
