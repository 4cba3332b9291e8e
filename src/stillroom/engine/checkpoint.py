"""Checkpoints that are either whole or not there, and never execute code."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stillroom.errors import InputError
from stillroom.files import write_atomically


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values atomically.

    Raises:
        InputError: if the disk is full; what was saved before stays.
    """
    try:
        write_atomically(path, lambda aside: torch.save(state, aside))
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        free = shutil.disk_usage(path.parent).free / 1e6
        raise InputError(
            f"checkpoint {path} could not be written ({str(error).splitlines()[0]}); {free:.0f} MB are free there. "
            "The previous checkpoint is untouched: make room and run the same command again"
        ) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint; code inside it is refused, never run.

    Raises:
        InputError: if the file is missing, damaged or not one of ours.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path} does not exist") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        raise InputError(
            f"checkpoint {path} cannot be read ({str(error).splitlines()[0]}); delete it to begin this run anew"
        ) from error
    return state


def random_state() -> dict[str, Any]:
    """The state of PyTorch's generators, which dropout and the like draw from."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Continue the generators where :func:`random_state` found them."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def seed_anew(*place: int) -> None:
    """Start PyTorch's generators as they follow from a place in a run: its seed, epoch, step, process."""
    torch.manual_seed(int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:7]))


@contextmanager
def drawing_for(place: tuple[int, ...]) -> Iterator[None]:
    """Let what draws random numbers draw those of a place in a run, the same in every process."""
    with torch.random.fork_rng():
        seed_anew(*place)
        yield
