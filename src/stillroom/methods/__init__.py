"""Methods: weighted sums of losses, their one-line text form, and what they need from two models."""

from stillroom.methods.grammar import parse_method
from stillroom.methods.method import Method
from stillroom.methods.presets import PRESETS, WRAPPERS, Preset
from stillroom.methods.term import Term

__all__ = ["PRESETS", "WRAPPERS", "Method", "Preset", "Term", "parse_method"]
