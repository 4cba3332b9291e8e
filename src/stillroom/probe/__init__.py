"""Probes: what a finished student is worth beyond its validation accuracy."""
