"""Format counts, durations, sizes in bytes, and names in spreadsheets."""

from __future__ import annotations

import math


def counted(count: int, what: str) -> str:
    """Return "1 folder" or "3,000 folders"; the plural adds s or es."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}{'es' if what.endswith('s') else 's'}"


def duration(seconds: float) -> str:
    """Return seconds as 8.3 s, 4:05 or 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size_in_words(count: float, *, up: bool = False) -> str:
    """Return a number of bytes with its unit, rounded down, or up if ``up``."""
    scale, unit = next(((s, u) for s, u in ((1e9, "GB"), (1e6, "MB")) if count >= s), (1e3, "kB"))
    tenths = math.ceil(10 * count / scale) if up else math.floor(10 * count / scale)
    return f"{tenths / 10:.12g} {unit}"


def inert_text(name: str) -> str:
    """Return a name in a form that a spreadsheet takes for text: a name like a formula could send the table away."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name


def short_count(count: float) -> str:
    """A count as 512, 20.6 k, 1.23 M or 4.1 G, three digits."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= 0.9995 * size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
