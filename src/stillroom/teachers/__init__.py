"""Teachers: they predict the logits that a student learns from, in each step or from a bank on disk."""
