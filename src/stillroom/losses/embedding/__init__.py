"""Losses on the embeddings of two networks."""
