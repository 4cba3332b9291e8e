"""Portable names for run folders: letters, digits, dots, dashes and underscores."""

from __future__ import annotations

import hashlib
import re

PORTABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
PORTABLE_WORDS = "letters, digits, . - _ only, a letter or digit first, at most 120"


def slug(text: str) -> str:
    """Make a portable name; a text that is too long or has other characters gets a short hash, to stay distinct."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("_.") or "run"
    if len(plain) <= 40 and plain == text.replace(":", "_"):
        return plain
    return f"{plain[:40].rstrip('_.')}_{hashlib.sha256(text.encode()).hexdigest()[:6]}"
