"""The memory that a run takes: the most it took, and what to do where it is not enough."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stillroom.errors import InputError, first_line

_PROC = Path("/proc/self")


class PeakMemory:
    """The peak since this was made, or since the last one was: there is one counter for all.

    On CUDA it is what PyTorch's tensors take on the device. On the CPU it is what the whole process has in memory, its
    code and the images included; only Linux can tell.

    Args:
        device: where a run computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._counts = device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            self._counts = _begin_anew()

    def bytes(self) -> int | None:
        """The peak; None where it cannot be known."""
        if not self._counts:
            return None
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else _peak_resident()


@contextmanager
def naming_memory(device: torch.device, batch_size: int) -> Iterator[None]:
    """Turn a device without room for a step into an error that says what helps.

    Args:
        device: where the steps are computed.
        batch_size: of a step, for the message.

    Raises:
        InputError: inside, there was too little memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batch_size={batch_size}: {device} has too little memory for a step ({first_line(error)}); lower "
            "batch_size or image_size, or use precision=bf16"
        ) from error


def _begin_anew() -> bool:
    """Forget the peak of what came before; whether that can be done."""
    try:
        (_PROC / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_resident() -> int | None:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", (_PROC / "status").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])
