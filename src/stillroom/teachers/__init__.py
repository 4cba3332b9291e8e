"""Teachers: who predicts the logits that a student learns from, live or from a bank on disk."""
