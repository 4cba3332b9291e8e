"""Peak memory of a run, and the error for too little device memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from stillroom.errors import InputError, first_line

_PROC = Path("/proc/self")


class PeakMemory:
    """Peak memory since the latest object of this class was made; all objects share one counter.

    On CUDA it is the memory of PyTorch's tensors on the device. On the CPU it is the resident memory of the process,
    including code and images; it is measured on Linux only.

    Args:
        device: the device of the run.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._counts = device.type == "cuda"
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            self._counts = _begin_anew()

    def bytes(self) -> int | None:
        """The peak in bytes; None if it cannot be measured."""
        if not self._counts:
            return None
        return torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else _peak_resident()


@contextmanager
def naming_memory(device: torch.device, batch_size: int) -> Iterator[None]:
    """Turn an out-of-memory error into an InputError that names the remedies.

    Args:
        device: the device of the steps.
        batch_size: of a step, for the message.

    Raises:
        InputError: the block ran out of device memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"batch_size={batch_size}: {device} has too little memory for a step ({first_line(error)}); lower "
            "batch_size or image_size, or use precision=bf16"
        ) from error


def _begin_anew() -> bool:
    """Reset the peak of this process; return whether that worked."""
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
