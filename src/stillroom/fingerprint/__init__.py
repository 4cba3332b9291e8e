"""Fingerprints of code and modules: equal only if they compute the same; what cannot be compared is listed."""

from stillroom.fingerprint.code import code_digest
from stillroom.fingerprint.modules import Parts, deep_copy, held_by, is_users_own, parts_of, tensors_digest

__all__ = ["Parts", "code_digest", "deep_copy", "held_by", "is_users_own", "parts_of", "tensors_digest"]
