"""Comparisons: a grid of pairs, methods and seeds, trained cell by cell, and what comes of it."""
