"""The value of a loss: one floating number, or a clear error."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError


def scalar_of(loss: nn.Module, value: Any) -> Tensor:
    """A loss's result as a scalar of at least float32.

    Args:
        loss: for the message.
        value: what it returned.

    Raises:
        InputError: it is no floating scalar.
    """
    kind = type(loss).__name__
    if value is None:
        raise InputError(f"loss {kind} returned None: its forward must return the loss (is a return missing?)")
    if not isinstance(value, Tensor):
        what = f"{value!r}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        raise InputError(f"loss {kind} returned {what}: return a tensor of one number, 0 as logits.new_zeros(())")
    if value.dim() != 0:
        raise InputError(f"loss {kind} returned shape {tuple(value.shape)}: return one number, such as loss.mean()")
    if not value.is_floating_point():
        raise InputError(f"loss {kind} returned dtype {value.dtype}: return a floating number")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
