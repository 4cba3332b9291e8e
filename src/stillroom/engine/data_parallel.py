"""Data-parallel gradients: forward and backward pass of a training step, with gradients averaged over all processes."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from stillroom.batch import Batch, Output
from stillroom.engine.accumulation import Part
from stillroom.engine.training_step import TrainingStep
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
    computed as it is.

    Args:
        step: the module with every trained parameter, the same values in every process.
        group: the processes of the run.
        norms: the batch norms of the module.
    """

    def __init__(self, step: TrainingStep, group: Group, norms: BatchNorms) -> None:
        self._step, self._group, self._norms = step, group, norms
        self._trained: tuple[bool, ...] = ()
        self._wrapped: DistributedDataParallel | None = None

    def begin_epoch(self) -> None:
        """Prepare for the parameters that require gradients now; every process must call this."""
        trained = tuple(parameter.requires_grad for parameter in self._step.parameters())
        if self._group.many and trained != self._trained:
            self._wrapped, self._trained = None, trained  # first remove the hooks of the earlier one
            self._wrapped = wrapped(self._step)

    def add_gradients(self, batch: Batch, teacher: Output | None, part: Part, epoch: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of one part of an optimizer step; after its last part they are averaged over processes.

        Returns:
            (terms,) of this process, as in :meth:`TrainingStep.forward`, and the student's logits, without a graph.
        """
        model: nn.Module = self._wrapped or self._step
        waiting: AbstractContextManager[None] = nullcontext()
        if self._wrapped is not None and not part.last:
            waiting = self._wrapped.no_sync()
        with self._norms.in_step(stand_in=batch.stand_in, images=part.images), waiting:
            values, logits = model(batch, teacher, part, epoch)
            values.sum().backward()
        return values.detach(), logits

    def close(self) -> None:
        """Remove the hooks from the parameters."""
        self._wrapped = None


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
