"""The most memory that a run took."""

from __future__ import annotations

import re
from pathlib import Path

import torch

_PROC = Path("/proc/self")


class PeakMemory:
    """The peak since this was made, or since the last one was: there is one counter for all.

    On CUDA it is what PyTorch's tensors take on the device. On the CPU it is what the whole process has in memory, its
    code and the pictures included; only Linux can tell.

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
