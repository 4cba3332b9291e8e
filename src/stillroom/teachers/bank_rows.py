"""Bank rows: how the logits of an image are rounded and packed into 16 or 8 bits per class.

A packed tensor is known by its number format:

- float16 (N, C): logits rounded to half precision.
- uint8 (N, 8 + C): two float32 numbers, offset and scale of the row, then one code per class; a logit is
  ``code * scale + offset``.
- float32 (N, C): rounded logits, among them a row that cannot be rounded and is kept exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

HEADER = 8  # bytes of a row's offset and scale
CODES = 255  # largest code


def row_bytes(classes: int, bits: int) -> int:
    """Size of a packed row in bytes."""
    return HEADER + classes if bits == 8 else 2 * classes


def pack_rows(logits: Tensor, bits: int) -> Tensor:
    """Round and pack logits; a row's result depends on that row alone.

    Args:
        logits: (N, C), any float format and device.
        bits: 16 or 8.

    Returns:
        Packed rows on the same device; float32 where one of them must be kept exactly.
    """
    packed, fits = _round(logits, bits)
    return packed if bool(fits.all()) else _exact_where(fits, packed, logits)


def unpack_rows(packed: Tensor) -> Tensor:
    """The logits in packed rows: float32 (N, C), the same bits on every device."""
    if packed.dtype != torch.uint8:
        return packed.float()
    header = packed[:, :HEADER].clone(memory_format=torch.contiguous_format).view(torch.float32)
    return (
        packed[:, HEADER:].float().mul_(header[:, 1:]).add_(header[:, :1])
    )  # not fused, which would round once instead of twice


def round_rows(logits: Tensor, bits: int) -> Tensor:
    """``unpack_rows(pack_rows(logits, bits))``, without waiting for the device."""
    packed, fits = _round(logits, bits)
    return _exact_where(fits, packed, logits)


def join_rows(parts: Sequence[Tensor]) -> Tensor:
    """Packed rows one after the other; in float32 where the parts are packed in different ways."""
    alike = len({part.dtype for part in parts}) == 1
    return torch.cat(list(parts) if alike else [unpack_rows(part) for part in parts])


def _round(logits: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Packed rows, and whether each may be rounded (N, 1)."""
    if bits == 16:
        half = logits.half()
        low, high = half.aminmax(dim=1, keepdim=True)  # on the CPU many times faster than isfinite of all values
        return half, low.isfinite() & high.isfinite()
    logits = logits.float()
    low, high = logits.aminmax(dim=1, keepdim=True)
    scale = (high - low) / CODES
    # A scale below the normal numbers has too few digits, and some processors take it for zero.
    fits = scale.isfinite() & ((scale >= torch.finfo(torch.float32).tiny) | (high == low))
    codes = ((logits - low) / torch.where(scale > 0, scale, 1.0)).round_().clamp_(0, CODES)
    header = torch.cat([low, scale], dim=1).view(torch.uint8)
    return torch.cat([header, codes.nan_to_num_(0).to(torch.uint8)], dim=1), fits


def _exact_where(fits: Tensor, packed: Tensor, logits: Tensor) -> Tensor:
    return torch.where(fits, unpack_rows(packed), logits.float())
