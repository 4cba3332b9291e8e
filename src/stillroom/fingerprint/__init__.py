"""Fingerprints of what an object computes: equal where it would compute the same, and honest about what is unknown."""

from stillroom.fingerprint.code import code_digest
from stillroom.fingerprint.modules import Parts, copied, held_by, is_users_own, parts_of, tensors_digest

__all__ = ["Parts", "code_digest", "copied", "held_by", "is_users_own", "parts_of", "tensors_digest"]
