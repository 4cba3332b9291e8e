"""What several processes of one run share: gradients, outputs, decisions.

Every process holds the whole student and every ``world_size``-th image of each batch. All of it is written so that
a run under any number of processes takes the same steps as one process with the same global batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx

from stillroom.batch import Batch, Output
from stillroom.errors import InputError
from stillroom.runtime.device import Machine


@contextmanager
def first_process_first(machine: Machine) -> Iterator[None]:
    """Let process 0 go through a block, which makes files that the others find when they follow."""
    if machine.world_size > 1 and not machine.first:
        distributed.barrier()
    try:
        yield
    finally:
        if machine.world_size > 1 and machine.first:
            distributed.barrier()


def copy_from_first(modules: Iterable[nn.Module]) -> None:
    """Give every process the parameters and buffers of process 0."""
    for module in modules:
        for value in [*module.parameters(), *module.buffers()]:
            # As bytes, for not every backend knows every number format.
            whole = value.detach().contiguous()
            if whole.numel():
                distributed.broadcast(whole.view(-1).view(torch.uint8), 0)
                value.detach().copy_(whole)


def average(parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
    """Replace gradients by their mean over all processes, in one message.

    Not ``DistributedDataParallel``, which expects one forward pass a step with every parameter in it: here two views
    may go through the student, parameters rest in initial stages, and connectors outside the student learn too.

    Gradients of 16 bits are averaged in float32, which every backend knows. Those in float64 take a second message.

    Args:
        parameters: the same ones in the same order in every process, with gradients on the same ones.
        extra: float32 numbers that are averaged on the way.

    Returns:
        The mean of ``extra``.
    """
    values = [extra, *(p.grad for p in parameters if p.grad is not None)]
    exact = [value for value in values if value.dtype == torch.float64]
    for group, dtype in (([v for v in values if v.dtype != torch.float64], torch.float32), (exact, torch.float64)):
        if not group:
            continue
        flat = torch.cat([value.flatten().to(dtype) for value in group])
        distributed.all_reduce(flat)
        flat /= distributed.get_world_size()
        pieces = torch.split(flat, [value.numel() for value in group])
        for value, mean in zip(group, pieces, strict=True):
            value.copy_(mean.view_as(value))
    return extra


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


def mean_of_shares(value: float, count: int) -> float:
    """The mean over all processes of a value that is itself a mean, over ``count`` images here."""
    shares = from_all((value, count))
    return float(sum(each * number for each, number in shares) / sum(number for _, number in shares))


def agree(value: object, what: str) -> None:
    """Make sure that every process sees the same.

    Raises:
        InputError: they do not, as when the run folder is not on a disk that all machines share.
    """
    values = from_all(value)
    if any(each != values[0] for each in values):
        raise InputError(f"the processes disagree about {what}: {values}; put runs= on a disk that all machines share")


def wait_for_all() -> None:
    """Go on when every process has come here."""
    distributed.barrier()


class Gather(torch.autograd.Function):
    """Stacks a tensor of the same shape from every process; a gradient goes back to where its slice came from."""

    @staticmethod
    def forward(_: FunctionCtx, value: Tensor) -> Tensor:
        """(...) of this process -> (world_size, ...)."""
        stacked = value.new_empty(distributed.get_world_size(), *value.shape)
        distributed.all_gather(list(stacked.unbind()), value.contiguous())
        return stacked

    @staticmethod
    def backward(_: FunctionCtx, *gradients: Tensor) -> Tensor:
        """The sum of what all processes want of this one's slice."""
        return total(gradients[0].contiguous())[distributed.get_rank()]


def gather_batch(output: Output, count: int, first: int = 0) -> Output:
    """Put together what every process's model says about its part of a batch, in the order of the whole batch.

    A loss of the result, computed alike in every process, gives gradients whose mean over the processes is the gradient
    of that loss.

    Args:
        output: of this process; modules among its parts are passed on.
        count: images in the whole batch.
        first: the process that the batch's first image belongs to.
    """
    parts = {name: _gathered(value, count, first) for name, value in output.parts.items()}
    return Output(_gathered(output.logits, count, first), parts)


def gather_labels(batch: Batch, count: int, first: int = 0) -> tuple[Tensor, Tensor]:
    """Labels and ids of the whole batch, in its order."""
    return _gathered(batch.labels, count, first), _gathered(batch.ids, count, first)


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
