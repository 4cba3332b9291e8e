"""Tuning: every method gets the same trials and epochs over its own space, and the winners are compared."""
