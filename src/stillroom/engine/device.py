"""Device and number format of a run."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric


def make_fabric(accelerator: str, precision: str) -> Fabric:
    """Device and precision of a recipe; "auto" precision is bf16 where the processor computes in it."""
    if precision == "auto":
        precision = "bf16" if has_native_bf16(accelerator) else "32"
    return Fabric(accelerator=accelerator, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true")


def has_native_bf16(accelerator: str) -> bool:
    """Whether bf16 is worth it: CUDA devices that compute in it, CPUs with AVX-512 BF16 or AMX."""
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return False
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe is not None and probe() for probe in probes)
