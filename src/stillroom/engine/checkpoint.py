"""Checkpoints that are either whole or not there, and never execute code."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from stillroom.errors import InputError, first_line
from stillroom.files import write_atomically, write_failure
from stillroom.models.weight_files import read_torch
from stillroom.reading import UnreadableError


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint of tensors and plain values atomically.

    Raises:
        InputError: if it cannot be written, as on a full disk; what was saved before stays.
    """

    def fill(aside: Path) -> None:
        with aside.open("wb") as file:  # given a path, torch would not say why it failed
            torch.save(state, file)

    try:
        write_atomically(path, fill)
    except (OSError, RuntimeError) as error:
        cause = _system_error(error)
        if cause is None:
            raise
        measure = _Size()
        torch.save(state, measure)
        raise write_failure(path, cause, measure.size) from error


class _Size(io.BytesIO):
    """A file that only measures what is written to it."""

    size = 0

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self.size += count
        return count


def _system_error(error: BaseException | None) -> OSError | None:
    """The system's error behind an error; torch reports a failed write as what went wrong in consequence."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint; code inside it is refused, never run.

    Raises:
        InputError: if the file is missing, damaged or not one of ours.
    """
    try:
        state: dict[str, Any] = read_torch(path)
    except FileNotFoundError as error:
        raise InputError(f"checkpoint {path} does not exist") from error
    except PermissionError as error:
        raise InputError(f"checkpoint {path} cannot be read ({error.strerror}); make it readable") from error
    except (OSError, UnreadableError) as error:
        reason = error.reason if isinstance(error, UnreadableError) else first_line(error)
        raise InputError(f"checkpoint {path} cannot be read ({reason}); delete it to begin this run anew") from error
    if not isinstance(state, dict):
        raise InputError(f"checkpoint {path} cannot be read (it holds no state); delete it to begin this run anew")
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
