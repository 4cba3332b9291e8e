"""Synchronized batch norm: statistics of the whole batch, over all processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stillroom.errors import InputError
from stillroom.runtime.distributed import Gather


class SharedNorms:
    """Synchronizes the batch norms of some modules without replacing them.

    Args:
        modules: their batch norms use statistics over all processes inside :meth:`joined`.

    Attributes:
        stand_in: whether this process has no image of its own in the current batch; it then adds nothing to the
            statistics.
        whole: whether every process has the whole batch; each then computes its statistics alone.

    Raises:
        InputError: a batch norm of an unsupported type.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.stand_in = self.whole = False
        self._norms = [m for module in modules for m in module.modules() if _is_ours(m)]

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Context in which training mode uses statistics over all processes."""
        for norm in self._norms:
            vars(norm)["forward"] = partial(self._normalise, norm)
        try:
            yield
        finally:
            for norm in self._norms:
                del vars(norm)["forward"]

    @contextmanager
    def on_whole_batch(self) -> Iterator[None]:
        """Context in which every process has the whole batch."""
        self.whole = True
        try:
            yield
        finally:
            self.whole = False

    def _normalise(self, norm: Any, x: Tensor) -> Tensor:
        """Batch norm with the statistics of the whole batch; timm's also applies dropout and an activation."""
        if not norm.training or self.whole:
            plain: Tensor = type(norm).forward(norm, x)
            return plain
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(wide, axes, correction=0)
        count = 0 if self.stand_in else x.numel() // x.shape[1]
        stats: Tensor = Gather.apply(torch.stack([mean, variance, torch.full_like(mean, count)]))
        means, variances, counts = stats.unbind(1)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        if norm.track_running_stats:
            _remember(norm, mean.detach(), variance.detach() * total / (total - 1))
        shape = [1, -1, *[1] * (x.dim() - 2)]
        y = (wide - mean.view(shape)) * (variance + norm.eps).rsqrt().view(shape)
        if norm.affine:
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
        y = y.to(x.dtype)
        result: Tensor = norm.act(norm.drop(y)) if hasattr(norm, "act") else y
        return result


def _is_ours(module: nn.Module) -> bool:
    """Whether to synchronize a module: a batch norm, except a SyncBatchNorm with a process group of its own."""
    if not isinstance(module, _BatchNorm):
        return False
    if isinstance(module, nn.SyncBatchNorm):
        return module.process_group is None
    if type(module).forward is not _BatchNorm.forward and not (hasattr(module, "act") and hasattr(module, "drop")):
        raise InputError(
            f"student: its {type(module).__name__} cannot be synchronized over processes; use torch's BatchNorm "
            "or SyncBatchNorm, or run one process"
        )
    return True


def _remember(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Update the running statistics with those of a batch."""
    norm.num_batches_tracked += 1
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), momentum)
