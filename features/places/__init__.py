"""Where files lie: the words for files that are written once, and the claim by which one job at a time writes to a folder.

May import features.
"""
