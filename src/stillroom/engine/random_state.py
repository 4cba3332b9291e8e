"""State of PyTorch's random number generators: saved, restored, and seeded from a place in a run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators, which dropout uses."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Restore a state from :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_from_place(*place: int) -> None:
    """Seed PyTorch's generators from a place in a run: seed, epoch, step and process."""
    torch.manual_seed(int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:7]))


@contextmanager
def seeded_at(place: tuple[int, ...]) -> Iterator[None]:
    """Seed the generators from a place in a run for a block, alike in every process; restore them afterwards."""
    with torch.random.fork_rng():
        seed_from_place(*place)
        yield
