"""Multiply-accumulate operations (MACs) of a model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.models.output import evaluating


def count_macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulate operations in convolutions, linear layers and attention, for one forward pass.

    Args:
        model: on the images' device; its mode is put back.
        images: (B, C, H, W), float32.

    Returns:
        The operations for all B images together.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with evaluating(model), torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    return int(counter.get_total_flops()) // 2  # it counts a multiplication and an addition as two
