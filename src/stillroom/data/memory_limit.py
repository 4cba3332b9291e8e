"""Check before decoding whether a set of images fits into memory."""

from __future__ import annotations

import os

import psutil

from stillroom.errors import InputError

_USABLE = 0.8  # fraction of the free memory that a set may take; batches, models and the rest need memory too


def copies_here() -> int:
    """Return how many copies of the set this process must find memory for.

    Under torchrun each process holds a copy. The first process of a machine counts all of them. The others count one,
    since the first copies may be in memory already.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return 1
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def check_memory(needed: int, what: str, copies: int = 1) -> None:
    """Refuse a set that does not fit into memory.

    Args:
        needed: peak bytes of one copy.
        what: what needs them, for the message.
        copies: number of copies on this machine, one per process.

    Raises:
        InputError: more is needed than is free.
    """
    if short := shortage(needed, copies):
        fewer = "start fewer processes (jobs= of a comparison), " if copies > 1 else ""
        raise InputError(
            f"{what} {short}; lower image_size, {fewer}keep fewer classes or images in the folder, or read them from "
            "files (source=files)"
        )


def shortage(needed: int, copies: int = 1) -> str:
    """Say how much memory is needed and how much can be used; empty where it suffices.

    Args:
        needed: peak bytes of one copy.
        copies: number of copies on this machine, one per process.
    """
    free = psutil.virtual_memory().available * _USABLE
    if needed * copies <= free:
        return ""
    each = f" in each of {copies} processes" if copies > 1 else ""
    return f"need {needed / 1e9:.1f} GB of memory{each} and {free / 1e9:.1f} GB can be used"
