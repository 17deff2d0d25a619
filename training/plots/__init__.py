"""Plots for people, a module each: numbers in, PNG or SVG files out that are whole or not there.

May import features.
"""
