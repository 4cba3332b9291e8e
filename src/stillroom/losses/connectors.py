"""Connectors of feature losses: small trainable layers, and what brings maps to one size and dtype."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.losses.finite import can_look_at, check_result

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, init: Callable[[Tensor], Tensor] | None = None
) -> nn.Sequential:
    """A convolution that keeps height and width, then batch normalisation, whose shift replaces the bias.

    Args:
        in_channels: channels that come in.
        out_channels: channels that go out.
        kernel_size: odd.
        init: fills the convolution's weight in place; torch's default if None.

    Example:
        >>> conv_bn(3, 8, kernel_size=3)(torch.zeros(2, 3, 5, 5)).shape
        torch.Size([2, 8, 5, 5])
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    if init is not None:
        init(conv.weight)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def map_regressor(student_map: Tensor, teacher_map: Tensor) -> nn.Sequential:
    """A convolution, batch normalisation and a ReLU that predict a teacher's map from a student's.

    The convolution is 1x1, or 3x3 with stride 2 where the student's map is exactly twice as high and wide as the
    teacher's, or a transposed 4x4 with stride 2 where it is half. Of any other difference in size, the result keeps the
    student's. The ReLU is left out where the teacher's example map has a negative value, which a ReLU cannot produce.

    Args:
        student_map: an example (B, C, H, W).
        teacher_map: an example (B, C', H', W').

    Returns:
        The layers, float32 on the student's device.

    Example:
        >>> map_regressor(torch.zeros(2, 3, 4, 4), torch.ones(2, 5, 8, 8))(torch.zeros(2, 3, 4, 4)).shape
        torch.Size([2, 5, 8, 8])
    """
    (height, width), (wanted_height, wanted_width) = size_of(student_map), size_of(teacher_map)
    channels, wanted = student_map.shape[1], teacher_map.shape[1]
    if (height, width) == (2 * wanted_height, 2 * wanted_width):
        conv: nn.Module = nn.Conv2d(channels, wanted, 3, stride=2, padding=1, bias=False)
        layers = nn.Sequential(conv, nn.BatchNorm2d(wanted))
    elif (2 * height, 2 * width) == (wanted_height, wanted_width):
        conv = nn.ConvTranspose2d(channels, wanted, 4, stride=2, padding=1, bias=False)
        layers = nn.Sequential(conv, nn.BatchNorm2d(wanted))
    else:
        layers = conv_bn(channels, wanted)
    if bool((teacher_map >= 0).all()):
        layers.append(nn.ReLU())
    return place(layers, student_map)


def linear_projector(student_embedding: Tensor, teacher_embedding: Tensor) -> nn.Linear:
    """A linear layer from the width of one embedding (B, D) to that of another (B, E), on the first one's device.

    Example:
        >>> linear_projector(torch.zeros(2, 3), torch.zeros(2, 5))
        Linear(in_features=3, out_features=5, bias=True)
    """
    return place(nn.Linear(student_embedding.shape[1], teacher_embedding.shape[1]), student_embedding)


def place(module: AnyModule, example: Tensor) -> AnyModule:
    """Move a new connector to an example's device, with float32 parameters whatever the example's dtype.

    Example:
        >>> place(nn.Linear(2, 2), torch.zeros(1).half()).weight.dtype
        torch.float32
    """
    return module.to(example.device, torch.float32)


def cast_for(module: nn.Module, feature: Tensor) -> Tensor:
    """Bring a feature to the dtype that a connector computes in.

    That is the dtype of its parameters. Under autocast, which casts parameters and inputs itself, only float64 is
    changed, because autocast does not cast it.

    Batch normalisation turns a feature whose squares overflow into zeros, and its running variance into infinity: such
    a feature is refused here, on the CPU (see :mod:`stillroom.losses.finite`).

    Args:
        module: has at least one parameter.
        feature: any floating dtype; the conversion stays in the graph.

    Raises:
        NotFinite: the feature is too large to be normalised.

    Example:
        >>> cast_for(nn.Linear(2, 2), torch.zeros(1, 2).half()).dtype
        torch.float32
    """
    if feature.dtype != torch.float64 and torch.is_autocast_enabled(feature.device.type):
        return feature
    cast = feature.to(next(module.parameters()).dtype)
    if can_look_at(cast) and any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules()):
        check_result(torch.linalg.vector_norm(cast.detach()), student_feature=cast)
    return cast


def match_size(feature: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring a map to another height and width by adaptive averaging.

    Every new cell is the mean of the old cells it covers: a pooling where the map shrinks, a repetition where it
    grows by a whole factor, and a blend of neighbours in between. Averages of half precision are float32.

    Args:
        feature: (B, C, H, W).
        size: the new (H, W).

    Returns:
        ``(B, C, *size)``; the feature itself where it has that size.

    Example:
        >>> match_size(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]]), (1, 2))
        tensor([[[[3., 5.]]]])
    """
    if (feature.shape[2], feature.shape[3]) == (size[0], size[1]):
        return feature
    wide = feature.float() if feature.dtype in (torch.float16, torch.bfloat16) else feature
    return F.adaptive_avg_pool2d(wide, size)


def size_of(feature: Tensor) -> tuple[int, int]:
    """Height and width of a (B, C, H, W) map."""
    return feature.shape[2], feature.shape[3]


def smaller_size(one: Tensor, other: Tensor) -> tuple[int, int]:
    """The smaller height and the smaller width of two maps.

    Example:
        >>> smaller_size(torch.zeros(1, 1, 4, 6), torch.zeros(1, 9, 5, 3))
        (4, 3)
    """
    return min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])


def halved_upwards(terms: Sequence[Tensor]) -> Tensor:
    """Sum the levels' terms, shallow to deep, with weight 1 for the deepest and half as much for each one above it.

    Example:
        >>> halved_upwards([torch.tensor(4.0), torch.tensor(2.0), torch.tensor(1.0)])
        tensor(3.)
    """
    return torch.stack([term / 2**above for above, term in enumerate(reversed(terms))]).sum()


def not_connected(module: nn.Module, arguments: str) -> RuntimeError:
    """The error for a loss whose trainable parts are not built yet; the caller raises it.

    Example:
        >>> str(not_connected(nn.Identity(), "student_maps, teacher_maps"))
        'Identity has no connectors yet: call connect(student_maps, teacher_maps) with example features first'
    """
    return RuntimeError(
        f"{type(module).__name__} has no connectors yet: call connect({arguments}) with example features first"
    )


def check_connected(module: nn.Module, connectors: nn.ModuleList, maps: Sequence[Tensor], arguments: str) -> None:
    """Refuse to run without connectors, or with more or fewer levels than they were built for.

    Args:
        module: the loss.
        connectors: one per level.
        maps: the student's, one per level.
        arguments: what the loss's ``connect`` takes.

    Raises:
        RuntimeError: there are no connectors.
        ValueError: there are not as many as levels.
    """
    if len(connectors) == 0:
        raise not_connected(module, arguments)
    if len(connectors) != len(maps):
        raise ValueError(
            f"there are {len(maps)} levels but {type(module).__name__} was connected with {len(connectors)}: "
            f"call connect({arguments}) again with features of these networks"
        )


def check_whole(least: int, **numbers: int) -> None:
    """Refuse counts and exponents that are not whole numbers from ``least`` on.

    Args:
        least: the smallest allowed.
        **numbers: argument name to value.

    Raises:
        ValueError: naming the first argument that does not fit.

    Example:
        >>> check_whole(0, initial_epochs=-1)
        Traceback (most recent call last):
        ...
        ValueError: initial_epochs is -1: it must be a whole number, at least 0
    """
    for name, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise ValueError(f"{name} is {number}: it must be a whole number, at least {least}")
