"""Energy of repeated calls, from the counters of NVIDIA GPUs."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch


def joules_of(call: Callable[[], object], device: torch.device) -> float | None:
    """The energy that a GPU uses during a call, in joules.

    The counter is that of the whole GPU: other programs count, too.

    Args:
        call: takes a second or longer, for the counter is updated a few times a second.
        device: of the call.

    Returns:
        The energy; None without nvidia-ml-py, for a GPU without a counter, and for other devices.
    """
    if device.type != "cuda" or find_spec("pynvml") is None:
        return None
    import pynvml

    uuid = torch.cuda.get_device_properties(device).uuid  # CUDA_VISIBLE_DEVICES changes the numbers
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        torch.cuda.synchronize(device)
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        call()
        torch.cuda.synchronize(device)
        return float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1000
    except pynvml.NVMLError:
        return None
