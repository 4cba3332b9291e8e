"""Amounts in words: counts with their noun, and time."""

from __future__ import annotations


def counted(count: int, what: str) -> str:
    """Return "1 folder" or "3,000 folders"; the plural is the last word's with an s or es."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}{'es' if what.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    """Seconds as 8.3 s, 4:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
