"""Methods: weighted sums of losses, their one-line text form, and what they need from two models."""

from stillroom.methods.grammar import parse_method
from stillroom.methods.method import Method, Term
from stillroom.methods.presets import PRESETS, WRAPPERS, Preset

__all__ = ["PRESETS", "WRAPPERS", "Method", "Preset", "Term", "parse_method"]
