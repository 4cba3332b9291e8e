"""Multiply-accumulate operations (MACs) of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stillroom.models.output import evaluating


def count_macs(
    model: nn.Module, images: Tensor, forward: Callable[[nn.Module, Tensor], object] = nn.Module.__call__
) -> int:
    """Multiply-accumulate operations in convolutions, linear layers and attention, for one forward pass.

    Args:
        model: on the images' device; its mode is put back.
        images: (B, C, H, W), float32.
        forward: how the model is called with them.

    Returns:
        The operations for all B images together.
    """
    counter = _FlopCounter()  # type: ignore[no-untyped-call]
    with evaluating(model), torch.no_grad(), counter:
        forward(model, images)
    return counter.total // 2  # torch counts a multiplication and an addition as two


class _FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts by torch's formulas. ``FlopCounterMode`` does the same and imports its compiler, which takes seconds."""

    total: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        from torch.utils.flop_counter import flop_registry

        given = dict(kwargs or {})
        formula = flop_registry.get(func._overloadpacket)
        if formula is None:
            with self:
                parts = func.decompose(*args, **given)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **given)
        if formula is not None:
            self.total += int(formula(*args, **given, out_val=result))
        return result
