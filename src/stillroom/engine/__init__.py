"""The one loop: train, distil, evaluate, and the run folders that record it."""
