"""Slow, obvious oracles, written from the mathematics alone: they import nothing of Stillroom."""
