"""Tasks: what is learned, how a model is called for it, and how it is scored."""
