"""Energy of repeated calls, where the machine tells it. Zeus reads the counters of GPUs, and RAPL's of CPUs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch

WINDOW = "calls"


def joules_of(call: Callable[[], object], device: torch.device) -> float | None:
    """The energy that a device uses during a call, in joules.

    The counters are those of the whole GPU, or of all processor packages and their memory: other programs count, too.

    Args:
        call: takes a second or longer, for the counters are updated a few times a second.
        device: a CUDA device or the CPU.

    Returns:
        The energy; None where Zeus is not installed or the counters cannot be read. On Linux, RAPL requires root.
    """
    if find_spec("zeus") is None or device.type not in ("cpu", "cuda"):
        return None
    from zeus.monitor import ZeusMonitor

    index = torch.cuda.current_device() if device.type == "cuda" and device.index is None else device.index
    monitor = ZeusMonitor(gpu_indices=[] if device.type == "cpu" else [index], approx_instant_energy=False)
    monitor.begin_window(WINDOW)
    call()
    found = monitor.end_window(WINDOW)
    parts = [found.gpu_energy] if device.type == "cuda" else [found.cpu_energy, found.dram_energy]
    values = [value for part in parts if part for value in part.values()]
    return float(sum(values)) if values else None
