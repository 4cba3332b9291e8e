"""Losses on what lies below the logits: feature maps, embeddings, and relations between samples."""
