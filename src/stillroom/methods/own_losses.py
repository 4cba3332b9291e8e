"""What a loss of one's own has to keep to, beyond the names that it asks for."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError, did_you_mean

# What a loss says about itself in attributes. A misspelt one would silently be its default.
PROPERTIES = ("initial_epochs", "final_epoch", "per_sample", "reuses_head")


def check_properties(loss: nn.Module) -> None:
    """Refuse an attribute whose name is nearly one of :data:`PROPERTIES`.

    Raises:
        InputError: naming the loss, the attribute and the property.
    """
    inherited = {*dir(nn.Module), *PROPERTIES}
    for name in {*vars(loss), *dir(type(loss))} - inherited:
        close = get_close_matches(name, PROPERTIES, 1, 0.85)
        if close:
            raise InputError(
                f"loss {type(loss).__name__} has an attribute {name!r}, which means nothing here{did_you_mean(close)}"
            )


def one_number(loss: nn.Module, value: Any) -> Tensor:
    """What a loss returned, as a scalar of at least float32.

    Raises:
        InputError: it is no floating tensor of one number.
    """
    kind = type(loss).__name__
    if value is None:
        raise InputError(f"loss {kind} returned None: its forward has to return the loss (is a return missing?)")
    if not isinstance(value, Tensor):
        what = f"{value!r}" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        raise InputError(f"loss {kind} returned {what}: return a tensor of one number, 0 as logits.new_zeros(())")
    if value.dim() != 0:
        raise InputError(f"loss {kind} returned shape {tuple(value.shape)}: return one number, such as loss.mean()")
    if not value.is_floating_point():
        raise InputError(f"loss {kind} returned dtype {value.dtype}: return a floating number")
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
