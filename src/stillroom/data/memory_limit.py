"""Whether a set of images fits into memory, known from its count and size before one is decoded."""

from __future__ import annotations

import os

import psutil

from stillroom.errors import InputError

_SPARE = 0.8  # fraction of the free memory that a set may take: batches, models and the rest live there too


def copies_here() -> int:
    """How many processes of this machine are about to hold the set this process loads.

    torchrun says how many there are. The first of them asks for all; the others find the memory already in use.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return 1
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def check_memory(needed: int, what: str, copies: int = 1) -> None:
    """Refuse a set that would not fit into memory.

    Args:
        needed: bytes of one copy, at the moment when it takes most.
        what: what needs them, for the message.
        copies: how many processes of this machine hold one each.

    Raises:
        InputError: more is needed than is free.
    """
    free = psutil.virtual_memory().available * _SPARE
    if needed * copies <= free:
        return
    each, fewer = (
        (f" in each of {copies} processes", "start fewer processes (jobs= of a comparison), ")
        if copies > 1
        else ("", "")
    )
    raise InputError(
        f"{what} need {needed / 1e9:.1f} GB of memory{each} and {free / 1e9:.1f} GB can be used; "
        f"lower image_size, {fewer}or keep fewer classes or images in the folder"
    )
