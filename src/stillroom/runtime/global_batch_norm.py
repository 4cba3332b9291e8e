"""Batch norm with several processes: statistics of the whole batch, or of each process's images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stillroom.errors import InputError
from stillroom.runtime.distributed import Gather, Group


class BatchNorms:
    """The batch norms of some modules, which are not replaced.

    With one process nothing is changed.

    Args:
        modules: their batch norms are meant.
        group: the processes of the run.
        synchronised: whether they use statistics over all processes in training; else each process uses its own
            images, unless a step has fewer than two for each.
        compiled: whether the modules are run by torch.compile, whose graph ends before a synchronised batch norm.

    Raises:
        InputError: a batch norm of a type that cannot be synchronised.
    """

    def __init__(
        self, modules: Iterable[nn.Module], group: Group, *, synchronised: bool = True, compiled: bool = False
    ) -> None:
        self.synchronised, self._group = synchronised, group
        self._stand_in = self._whole = False
        found = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm)]
        self._tracked = [norm for norm in found if norm.running_mean is not None]
        found = found if group.many else []
        normalise: Any = self._normalise
        if compiled and found:
            normalise = torch.compiler.disable(normalise)  # type: ignore[no-untyped-call]
        self._shared = {n: partial(normalise, n) for n in found if _can_be_shared(n, refuse=synchronised)}

    @contextmanager
    def in_step(self, *, stand_in: bool, images: int) -> Iterator[None]:
        """Context of the forward and backward pass of a training step.

        Args:
            stand_in: whether this process has no image of its own in it; it then adds nothing to the statistics.
            images: number of images in it over all processes.
        """
        shared = self._shared if self.synchronised or images < 2 * self._group.machine.world_size else {}
        self._stand_in = stand_in
        for norm, forward in shared.items():
            vars(norm)["forward"] = forward
        try:
            yield
        finally:
            for norm in shared:
                del vars(norm)["forward"]

    @contextmanager
    def on_whole_batch(self) -> Iterator[None]:
        """Context in which every process has the whole batch and computes its statistics alone."""
        self._whole = True
        try:
            yield
        finally:
            self._whole = False

    def average_statistics(self) -> None:
        """Replace running statistics that differ between processes by their mean; every process must call this."""
        own = self.own_statistics()
        if own is not None:
            self.load_statistics(self._group.total(own) / self._group.machine.world_size)

    def own_statistics(self) -> Tensor | None:
        """The running statistics of this process, (values,) in float64; None if they are the same in all processes."""
        if self.synchronised or not self._group.many or not self._tracked:
            return None
        return torch.cat([value.double() for value in self._statistics()])

    def load_statistics(self, values: Tensor) -> None:
        """Set the running statistics to values as from :meth:`own_statistics`."""
        there = self._statistics()
        for value, new in zip(there, torch.split(values, [value.numel() for value in there]), strict=True):
            value.copy_(new)

    def _statistics(self) -> list[Tensor]:
        both = (value for norm in self._tracked for value in (norm.running_mean, norm.running_var))
        return [value for value in both if value is not None]

    def _normalise(self, norm: Any, x: Tensor) -> Tensor:
        """Batch norm with the statistics of the whole batch; timm's also applies dropout and an activation."""
        if not norm.training or self._whole:
            plain: Tensor = type(norm).forward(norm, x)
            return plain
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.dim())]
        variance, mean = torch.var_mean(wide, axes, correction=0)
        count = 0 if self._stand_in else x.numel() // x.shape[1]
        stats: Tensor = Gather.apply(torch.stack([mean, variance, torch.full_like(mean, count)]))
        means, variances, counts = stats.unbind(1)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        if norm.track_running_stats:
            _remember(norm, mean, variance, total)
        shape = [1, -1, *[1] * (x.dim() - 2)]
        y = (wide - mean.view(shape)) * (variance + norm.eps).rsqrt().view(shape)
        if norm.affine:
            y = y * norm.weight.view(shape) + norm.bias.view(shape)
        y = y.to(x.dtype)
        result: Tensor = norm.act(norm.drop(y)) if hasattr(norm, "act") else y
        return result


def _can_be_shared(norm: _BatchNorm, *, refuse: bool) -> bool:
    """Whether to synchronise a batch norm; not a SyncBatchNorm with a process group of its own.

    Args:
        norm: any batch norm.
        refuse: whether one of an unknown type is an error.
    """
    if isinstance(norm, nn.SyncBatchNorm):
        return norm.process_group is None
    known = type(norm).forward is _BatchNorm.forward or (hasattr(norm, "act") and hasattr(norm, "drop"))
    if refuse and not known:
        raise InputError(
            f"student: its {type(norm).__name__} cannot be synchronised over processes; use torch's BatchNorm "
            "or SyncBatchNorm, batch_norm=per_process, or run one process"
        )
    return known


@torch.no_grad()  # else the statistics would hold the graph of every step
def _remember(norm: Any, mean: Tensor, variance: Tensor, total: Tensor) -> None:
    """Update the running statistics with those of a batch of ``total`` values in each channel."""
    norm.num_batches_tracked += 1
    momentum = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((variance * total / (total - 1)).to(norm.running_var.dtype), momentum)
