"""What every page is made of: the document that needs nothing but itself, its elements, plots and small pictures,
and the sections that several have.

May import features, features.dataset, training.plots.
"""
