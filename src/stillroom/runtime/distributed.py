"""Data-parallel training: collectives over the processes of one run, and sharded teachers (FSDP).

Every process holds the whole student and every ``world_size``-th image of each batch. A run under any number of
processes takes the same steps as one process with the same global batch, up to rounding.

The rest of the program uses :class:`Group`. With one process, each of its operations returns its argument. Gradients
are averaged by ``DistributedDataParallel``, see :mod:`stillroom.engine.data_parallel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from stillroom.batch import Batch, Mixture, Output
from stillroom.errors import InputError
from stillroom.runtime.device import Machine


@dataclass(frozen=True)
class Group:
    """Process group of a run. Every process must call the same methods in the same order.

    Args:
        machine: device and rank of this process.
    """

    machine: Machine

    @property
    def many(self) -> bool:
        """Whether there is more than one process."""
        return self.machine.world_size > 1

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.many:
            wait_for_all()

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return total(value) if self.many else value

    def from_all(self, value: Any) -> list[Any]:
        """The value of every process, ordered by rank; for small plain values."""
        return from_all(value) if self.many else [value]

    def mean(self, value: float, count: int) -> float:
        """The mean over all images, from a mean over this process's ``count`` images."""
        if not self.many:
            return value
        parts = from_all((value, count))
        return float(sum(each * number for each, number in parts) / sum(number for _, number in parts))

    def any(self, here: bool) -> bool:
        """Whether ``here`` is true in any process."""
        return bool(here) if not self.many else int(total(self._number(here))) > 0

    def all(self, here: bool) -> bool:
        """Whether ``here`` is true in every process."""
        return bool(here) if not self.many else int(total(self._number(not here))) == 0

    def _number(self, flag: bool) -> Tensor:
        return torch.tensor(int(flag), device=self.machine.device)

    def agree(self, value: object, what: str) -> None:
        """Check that every process has the same value.

        Raises:
            InputError: the values differ, for example because the run folder is not on a shared disk.
        """
        values = self.from_all(value)
        if any(each != values[0] for each in values):
            raise InputError(
                f"the processes have different values of {what}: {values}; put runs= on a disk that all machines share"
            )

    def copy_from_first(self, modules: Iterable[nn.Module]) -> None:
        """Copy the parameters and buffers of process 0 to every process."""
        for module in modules if self.many else ():
            for value in [*module.parameters(), *module.buffers()]:
                # As bytes, because not every backend supports every dtype.
                whole = value.detach().contiguous()
                if whole.numel():
                    distributed.broadcast(whole.view(-1).view(torch.uint8), 0)
                    value.detach().copy_(whole)

    def average(self, value: Tensor) -> Tensor:
        """The mean of a floating tensor over all processes."""
        return total(value) / self.machine.world_size if self.many else value

    def loss_factor(self, batch: Batch, count: int) -> float:
        """Factor on this process's mean loss, such that the mean over processes is that of the whole batch.

        Args:
            batch: this process's part.
            count: number of images in the whole batch.
        """
        own = 0 if batch.stand_in else len(batch.labels)
        return own * self.machine.world_size / count

    def gather_step(
        self, student: Output, teacher: Output | None, batch: Batch, count: int, first: int
    ) -> tuple[Output, Output | None, Batch]:
        """Gather both networks' outputs and the labels of the whole batch from all processes, in batch order.

        Every process computes the same loss of the result. The mean of the gradients over the processes is the
        gradient of that loss.

        Args:
            student: output of this process's part; modules among its parts are passed on.
            teacher: the same of the teacher, or None.
            batch: this process's part.
            count: number of images in the whole batch.
            first: rank of the process that holds the batch's first image.

        Returns:
            The outputs, and the batch with labels, ids and mixture of all its images; its images are this process's.
        """
        if not self.many:
            return student, teacher, batch

        def whole(output: Output) -> Output:
            parts = {name: _gathered(value, count, first) for name, value in output.parts.items()}
            return Output(_gathered(output.logits, count, first), parts)

        labels, ids = (_gathered(value, count, first) for value in (batch.labels, batch.ids))
        mixture = batch.mixture
        if mixture is not None:
            mixture = Mixture(*(_gathered(value, count, first) for value in (mixture.labels, mixture.fraction)))
        batch = replace(batch, labels=labels, ids=ids, mixture=mixture)
        return whole(student), None if teacher is None else whole(teacher), batch

    def gather_set(self, rows: Tensor, count: int) -> Tensor:
        """Gather the rows of a whole set of ``count`` images from all processes, in the set's order."""
        return _gathered(rows, count, 0) if self.many else rows


@contextmanager
def first_process_first(machine: Machine) -> Iterator[None]:
    """Run a block in process 0 before the other processes, which then find the files it wrote."""
    if machine.world_size > 1 and not machine.first:
        distributed.barrier()
    try:
        yield
    finally:
        if machine.world_size > 1 and machine.first:
            distributed.barrier()


def total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    value = value.clone()
    distributed.all_reduce(value)
    return value


def from_all(value: Any) -> list[Any]:
    """The value of every process, ordered by rank; for small plain values."""
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Wait until every process has called this."""
    distributed.barrier()


class Gather(torch.autograd.Function):
    """All-gather with gradients: stacks tensors of the same shape, and returns each slice's gradient to its process.

    ``torch.distributed.nn.functional.all_gather`` does the same but is deprecated, and its replacement is private.
    """

    @staticmethod
    def forward(_: FunctionCtx, value: Tensor) -> Tensor:
        """(...) of this process -> (world_size, ...)."""
        stacked = value.new_empty(distributed.get_world_size(), *value.shape)
        distributed.all_gather(list(stacked.unbind()), value.contiguous())
        return stacked

    @staticmethod
    def backward(_: FunctionCtx, *gradients: Tensor) -> Tensor:
        """The sum of all processes' gradients for this one's slice."""
        return total(gradients[0].contiguous())[distributed.get_rank()]


def _gathered(value: Any, count: int, first: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_gathered(each, count, first) for each in value)
    if not isinstance(value, Tensor):
        return value
    longest = -(-count // distributed.get_world_size())
    if len(value) < longest:
        value = torch.cat([value, value.new_zeros(longest - len(value), *value.shape[1:])])
    stacked: Tensor = Gather.apply(value)
    # Images are assigned to processes round-robin, starting at rank `first`; padding and stand-ins come last.
    return stacked.roll(-first, 0).transpose(0, 1).flatten(0, 1)[:count]


def shard(model: nn.Module, machine: Machine) -> None:
    """Shard a frozen model's parameters over all processes (FSDP); a forward pass gathers one block at a time.

    The model is changed in place. Its weights must be contiguous. A block is a member of a ``ModuleList`` or
    ``Sequential``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(machine.device.type, (machine.world_size,))
    for block in _blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    lists = (nn.ModuleList, nn.Sequential)
    for child in module.children():
        if isinstance(module, lists) and not isinstance(child, lists):
            if next(child.parameters(), None) is not None:
                yield child
        else:
            yield from _blocks(child)
