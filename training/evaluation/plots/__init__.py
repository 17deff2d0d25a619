"""Plots for people, a module each: numbers in, PNG files out that are whole or not there.

May import features.
"""
