"""Faster ways that wait for a measurement: one that wins on its hardware moves into the package, the others go."""
