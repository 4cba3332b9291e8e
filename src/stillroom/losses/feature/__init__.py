"""Losses on features: feature maps, embeddings, and relations between samples."""
