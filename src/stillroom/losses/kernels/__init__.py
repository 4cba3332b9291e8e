"""Closed-form kernels, each beside the plain computation it must equal."""
