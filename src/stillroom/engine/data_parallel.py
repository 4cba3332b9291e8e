"""Data-parallel gradients: forward and backward pass of a training step, with gradients averaged over all processes."""

from __future__ import annotations

import inspect
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from stillroom.batch import Batch, Output
from stillroom.engine.accumulation import Part
from stillroom.engine.training_step import TrainingStep
from stillroom.errors import InputError
from stillroom.optim import StreamOptimizer
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms

# Its name depends on the version of PyTorch.
_SYNC_BUFFERS = next(
    name
    for name in ("forward_sync_buffers", "broadcast_buffers")
    if name in inspect.signature(DistributedDataParallel).parameters
)


class DataParallel:
    """Computes the gradients of a training step.

    With several processes, ``DistributedDataParallel`` averages them while the backward pass goes on. It is built anew
    where other parameters require gradients than before, for example after frozen epochs. With one process the step is
    computed as it is. For an optimizer with several gradient streams there is one backward pass for each stream, and
    the gradients are averaged after the last one: ``DistributedDataParallel`` expects one backward pass.

    Args:
        step: the module with every trained parameter, the same values in every process.
        group: the processes of the run.
        norms: the batch norms of the module.
        optimizer: receives the gradients if it has several streams; else they are in the parameters' ``grad``.
    """

    def __init__(self, step: TrainingStep, group: Group, norms: BatchNorms, optimizer: Optimizer) -> None:
        self._step, self._group, self._norms = step, group, norms
        self._streams = optimizer if isinstance(optimizer, StreamOptimizer) else None
        self._trained: tuple[bool, ...] = ()
        self._wrapped: DistributedDataParallel | None = None

    def begin_epoch(self) -> None:
        """Prepare for the parameters that require gradients now; every process must call this."""
        trained = tuple(parameter.requires_grad for parameter in self._step.parameters())
        if self._group.many and self._streams is None and trained != self._trained:
            self._wrapped, self._trained = None, trained  # first remove the hooks of the earlier one
            self._wrapped = wrapped(self._step)

    def add_gradients(self, batch: Batch, teacher: Output | None, part: Part, epoch: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of one part of an optimizer step; after its last part they are averaged over processes.

        Returns:
            (terms,) of this process, as in :meth:`TrainingStep.forward`, and its number of images
            classified correctly.

        Raises:
            InputError: no term depends on a parameter that is trained.
        """
        if self._streams is not None:
            return self._add_by_stream(self._streams, batch, teacher, part, epoch)
        model: nn.Module = self._wrapped or self._step
        waiting: AbstractContextManager[None] = nullcontext()
        if self._wrapped is not None and not part.last:
            waiting = self._wrapped.no_sync()
        with self._norms.in_step(stand_in=batch.stand_in, images=part.images), waiting:
            values, correct = model(batch, teacher, part, epoch)
            _require_graph(values)
            values.sum().backward()
        return values.detach(), correct

    def _add_by_stream(
        self, optimizer: StreamOptimizer, batch: Batch, teacher: Output | None, part: Part, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """One forward pass, and a backward pass for each stream."""
        with self._norms.in_step(stand_in=batch.stand_in, images=part.images), _reusable_graph():
            rows, correct = self._step.by_stream(optimizer.streams, batch, teacher, part, epoch)
            values = torch.stack(list(rows.values())).sum(0)
            _require_graph(values)
            optimizer.accumulate(**{stream: row.sum() for stream, row in rows.items()})
        if part.last and self._group.many:
            average_streams(optimizer, self._group)
        return values.detach(), correct

    def close(self) -> None:
        """Remove the hooks from the parameters."""
        self._wrapped = None


def _reusable_graph() -> AbstractContextManager[None]:
    """Context in which torch.compile makes graphs that serve several backward passes."""
    config: Any = sys.modules.get("torch._functorch.config")
    scope: AbstractContextManager[None] = nullcontext() if config is None else config.patch(donated_buffer=False)
    return scope


def _require_graph(values: Tensor) -> None:
    """Refuse terms without a gradient, for example of frozen layers."""
    if not values.requires_grad:
        raise InputError(
            "no loss of the method depends on a parameter that is trained: everything that they read is frozen; freeze "
            "less, or add a loss on logits"
        )


def average_streams(optimizer: StreamOptimizer, group: Group) -> None:
    """Replace each stream's gradients by their means over the processes; every process must call this.

    A parameter without a gradient here, but with one in another process, counts as zero here. Gradients of 16 bits are
    averaged in float32.
    """
    kinds: dict[torch.dtype, list[Tensor]] = {}
    for parameter in (p for settings in optimizer.param_groups for p in settings["params"] if p.requires_grad):
        kinds.setdefault(torch.promote_types(parameter.dtype, torch.float32), []).append(parameter)
    for there in optimizer.gradients.values():
        for dtype, parameters in kinds.items():
            rows = [there.get(p, torch.zeros_like(p)).to(dtype).reshape(-1) for p in parameters]
            has = rows[0].new_tensor([p in there for p in parameters])
            sizes = [*(p.numel() for p in parameters), len(parameters)]
            *means, has = torch.split(group.average(torch.cat([*rows, has])), sizes)
            for parameter, mean, anywhere in zip(parameters, means, has.tolist(), strict=True):
                if anywhere:
                    there[parameter] = mean.view(parameter.shape).to(parameter.dtype)


class _WithUnused(nn.Module):
    """A training step and a parameter that no step uses."""

    def __init__(self, step: TrainingStep) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.step = step

    def forward(self, batch: Batch, teacher: Output | None, part: Part, epoch: int) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = self.step(batch, teacher, part, epoch)
        return result


def wrapped(step: TrainingStep) -> DistributedDataParallel:
    """A training step in ``DistributedDataParallel``. A parameter that a step does not use gets no gradient in it.

    With ``find_unused_parameters`` the buckets, and with them the rounding of the sums, are the same in every step, so
    that a run can be resumed bit for bit. Without it they change after the first step. PyTorch warns where every
    parameter is used. On a CPU a parameter that is never used avoids the warning; on a GPU it would make each step wait
    for the device.

    Gradients of 16 bits are averaged in float32.
    """
    parameters = list(step.parameters())
    options: dict[str, Any] = {_SYNC_BUFFERS: False}
    made = DistributedDataParallel(
        _WithUnused(step) if parameters[0].device.type == "cpu" else step,
        init_sync=False,
        find_unused_parameters=True,
        gradient_as_bucket_view=True,
        **options,
    )
    if any(p.requires_grad and p.dtype in (torch.float16, torch.bfloat16) for p in parameters):
        made.register_comm_hook(None, lambda _, bucket: _averaged(bucket.buffer()))
    return made


def _averaged(gradients: Tensor) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over the processes, those of 16 bits in float32."""
    wide = gradients.to(torch.promote_types(gradients.dtype, torch.float32)).div_(distributed.get_world_size())
    work = distributed.all_reduce(wide, async_op=True)
    return work.get_future().then(lambda done: gradients.copy_(done.value()[0]))
