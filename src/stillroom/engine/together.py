"""What several processes of one run share: gradients, batch statistics, outputs, decisions.

Every process holds the whole student and every ``world_size``-th picture of each batch. All of it is written so that
a run under any number of processes takes the same steps as one process with the same global batch, up to rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from stillroom.engine.device import Machine
from stillroom.errors import InputError
from stillroom.records import Batch, Output


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
            distributed.broadcast(value.detach(), 0)


def average(parameters: Iterable[nn.Parameter], extra: Tensor) -> Tensor:
    """Replace gradients by their mean over all processes, in one message a number format.

    Not ``DistributedDataParallel``, which expects one forward pass a step with every parameter in it: here two views
    may go through the student, parameters rest in initial stages, and connectors outside the student learn too.

    Args:
        parameters: the same ones in every process, with gradients on the same ones.
        extra: float32 numbers that are averaged on the way.

    Returns:
        The mean of ``extra``.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    for dtype in {torch.float32, *(gradient.dtype for gradient in gradients)}:
        group = [gradient for gradient in gradients if gradient.dtype == dtype]
        if dtype == torch.float32:
            group.append(extra)
        flat = torch.cat([value.flatten() for value in group])
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
    """The mean over all processes of a value that is itself a mean, over ``count`` pictures here."""
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


class _Gather(torch.autograd.Function):
    """Stacks a tensor of the same shape from every process; a gradient goes back to where its slice came from."""

    @staticmethod
    def forward(_: FunctionCtx, value: Tensor) -> Tensor:
        stacked = value.new_empty(distributed.get_world_size(), *value.shape)
        distributed.all_gather(list(stacked.unbind()), value.contiguous())
        return stacked

    @staticmethod
    def backward(_: FunctionCtx, *gradients: Tensor) -> Tensor:
        return total(gradients[0].contiguous())[distributed.get_rank()]


def gather_batch(output: Output, count: int) -> Output:
    """Put together what every process's model says about its share of a batch, in the order of the whole batch.

    A loss of the result, computed alike in every process, gives gradients whose mean over the processes is the gradient
    of that loss.

    Args:
        output: of this process; modules among its parts are passed on.
        count: pictures in the whole batch.
    """
    return Output(_gathered(output.logits, count), {name: _gathered(v, count) for name, v in output.parts.items()})


def gather_labels(batch: Batch, count: int) -> tuple[Tensor, Tensor]:
    """Labels and ids of the whole batch, in its order."""
    return _gathered(batch.labels, count), _gathered(batch.ids, count)


def _gathered(value: Any, count: int) -> Any:
    if isinstance(value, tuple):
        return tuple(_gathered(each, count) for each in value)
    if not isinstance(value, Tensor):
        return value
    longest = -(-count // distributed.get_world_size())
    if len(value) < longest:
        value = torch.cat([value, value.new_zeros(longest - len(value), *value.shape[1:])])
    stacked: Tensor = _Gather.apply(value)
    # Process r holds the pictures r, r + world_size, ...: those that are padded come last.
    return stacked.transpose(0, 1).flatten(0, 1)[:count]


@contextmanager
def batch_norm_over_all(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let batch norms in training mode take their statistics over all processes; the modules stay the ones they are.

    Raises:
        InputError: a batch norm of a kind that is not known.
    """
    norms = [m for module in modules for m in module.modules() if isinstance(m, _BatchNorm)]
    norms = [norm for norm in norms if not isinstance(norm, nn.SyncBatchNorm)]
    for norm in norms:
        plain = type(norm).forward is _BatchNorm.forward
        if not plain and not (hasattr(norm, "act") and hasattr(norm, "drop")):
            raise InputError(
                f"student: its {type(norm).__name__} cannot take its statistics over several processes; use torch's "
                "BatchNorm or SyncBatchNorm, or one process"
            )
    for norm in norms:
        vars(norm)["forward"] = MethodType(_normalise, norm)
    try:
        yield
    finally:
        for norm in norms:
            del vars(norm)["forward"]


def _normalise(norm: Any, x: Tensor) -> Tensor:
    """Batch norm with the statistics of the whole batch; also timm's, which drops and activates behind it."""
    if not norm.training:
        plain: Tensor = type(norm).forward(norm, x)
        return plain
    wide = x.float()
    axes = [0, *range(2, x.dim())]
    variance, mean = torch.var_mean(wide, axes, correction=0)
    count = x.numel() // x.shape[1]
    stats: Tensor = _Gather.apply(torch.stack([mean, variance, torch.full_like(mean, count)]))
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


def _remember(norm: Any, mean: Tensor, variance: Tensor) -> None:
    """Move the running statistics towards a batch's."""
    norm.num_batches_tracked += 1
    share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), share)
    norm.running_var.lerp_(variance.to(norm.running_var.dtype), share)


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
