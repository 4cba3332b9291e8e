"""DDP-style collectives: what the processes of one run share (gradients, outputs, decisions), behind one object.

Every process holds the whole student and every ``world_size``-th image of each batch. A run under any number of
processes takes the same steps as one process with the same global batch, up to rounding.

:class:`Group` is what the rest of the program uses: with one process each of its operations returns what it is given.
``DistributedDataParallel`` is not used: it expects one forward pass a step with every parameter in it. Here two views
may go through the student, parameters rest in initial stages, and connectors outside the student learn too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from stillroom.batch import Batch, Output
from stillroom.errors import InputError
from stillroom.runtime.device import Machine


@dataclass(frozen=True)
class Group:
    """The processes of one run. Every process has to call the same methods in the same order.

    Args:
        machine: of this process.
    """

    machine: Machine

    @property
    def many(self) -> bool:
        """Whether there is more than one process."""
        return self.machine.world_size > 1

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.many:
            wait_for_all()

    def total(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        return total(value) if self.many else value

    def from_all(self, value: Any) -> list[Any]:
        """A small plain value of every process, in the order of the processes."""
        return from_all(value) if self.many else [value]

    def mean(self, value: float, count: int) -> float:
        """The mean over all images, of a value that is the mean over this process's ``count`` images."""
        if not self.many:
            return value
        parts = from_all((value, count))
        return float(sum(each * number for each, number in parts) / sum(number for _, number in parts))

    def any(self, here: bool) -> bool:
        """Whether something holds in any process."""
        return bool(here) if not self.many else int(total(self._number(here))) > 0

    def all(self, here: bool) -> bool:
        """Whether something holds in every process."""
        return bool(here) if not self.many else int(total(self._number(not here))) == 0

    def _number(self, flag: bool) -> Tensor:
        return torch.tensor(int(flag), device=self.machine.device)

    def agree(self, value: object, what: str) -> None:
        """Make sure that every process has the same value.

        Raises:
            InputError: they do not, as when the run folder is not on a disk that all machines share.
        """
        values = self.from_all(value)
        if any(each != values[0] for each in values):
            raise InputError(
                f"the processes disagree about {what}: {values}; put runs= on a disk that all machines share"
            )

    def copy_from_first(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the parameters and buffers of process 0."""
        for module in modules if self.many else ():
            for value in [*module.parameters(), *module.buffers()]:
                # As bytes, for not every backend knows every number format.
                whole = value.detach().contiguous()
                if whole.numel():
                    distributed.broadcast(whole.view(-1).view(torch.uint8), 0)
                    value.detach().copy_(whole)

    def average(self, parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
        """Replace gradients by their mean over all processes, in one message.

        Gradients of 16 bits are averaged in float32, which every backend knows. Those in float64 take a second message.

        Args:
            parameters: the same ones in the same order in every process, with gradients on the same ones.
            extra: float32 numbers that are averaged on the way.

        Returns:
            The mean of ``extra``.
        """
        if not self.many:
            return extra
        values = [extra, *(p.grad for p in parameters if p.grad is not None)]
        exact = [value for value in values if value.dtype == torch.float64]
        others = [value for value in values if value.dtype != torch.float64]
        for group, dtype in ((others, torch.float32), (exact, torch.float64)):
            if not group:
                continue
            flat = torch.cat([value.flatten().to(dtype) for value in group])
            distributed.all_reduce(flat)
            flat /= self.machine.world_size
            pieces = torch.split(flat, [value.numel() for value in group])
            for value, mean in zip(group, pieces, strict=True):
                value.copy_(mean.view_as(value))
        return extra

    def loss_factor(self, batch: Batch, count: int) -> float:
        """What a mean over this process's part is multiplied by, so that the parts' mean is that of the whole batch.

        Args:
            batch: of this process.
            count: images in the whole batch.
        """
        own = 0 if batch.stand_in else len(batch.labels)
        return own * self.machine.world_size / count if self.many else 1.0

    def gather_step(
        self, student: Output, teacher: Output | None, batch: Batch, count: int, first: int
    ) -> tuple[Output, Output | None, Tensor, Tensor]:
        """Both networks' outputs, labels and ids of the whole batch, in its order, from those of this process's part.

        A loss of the result, computed alike in every process, gives gradients whose mean over the processes is the
        gradient of that loss.

        Args:
            student: of this process; modules among its parts are passed on.
            teacher: the same, or None.
            batch: of this process.
            count: images in the whole batch.
            first: the process that the batch's first image belongs to.
        """
        if not self.many:
            return student, teacher, batch.labels, batch.ids

        def whole(output: Output) -> Output:
            parts = {name: _gathered(value, count, first) for name, value in output.parts.items()}
            return Output(_gathered(output.logits, count, first), parts)

        labels, ids = (_gathered(value, count, first) for value in (batch.labels, batch.ids))
        return whole(student), None if teacher is None else whole(teacher), labels, ids

    def gather_set(self, rows: Tensor, count: int) -> Tensor:
        """The rows of a whole set of ``count`` images, in its order, from those of this process's images."""
        return _gathered(rows, count, 0) if self.many else rows


@contextmanager
def first_process_first(machine: Machine) -> Iterator[None]:
    """Let process 0 run a block before the others do: it makes files that they then find."""
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
    """A small plain value of every process, in the order of the processes."""
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def wait_for_all() -> None:
    """Wait until every process is here."""
    distributed.barrier()


class Gather(torch.autograd.Function):
    """Stacks a tensor of the same shape from every process; a gradient goes back to where its slice came from.

    ``torch.distributed.nn.functional.all_gather`` does the same and is deprecated; what replaces it is private.
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
    # The images belong to the processes in turn, beginning with the first: padding and stand-ins come last.
    return stacked.roll(-first, 0).transpose(0, 1).flatten(0, 1)[:count]


def shard(model: nn.Module, machine: Machine) -> None:
    """Spread a frozen model's parameters over all processes (FSDP), which bring together one block at a time.

    The model is changed in place and its weights have to be contiguous. Its blocks are the members of its lists and
    sequences of layers.
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
