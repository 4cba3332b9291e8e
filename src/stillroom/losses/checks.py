"""Argument checks of the losses: shapes, dtypes, devices, ranges, and on the CPU the values themselves.

No check reads the data of a tensor on an accelerator, so none costs a device synchronisation; all compile away.

For logits of more than two dimensions, such as the (B, T, V) of a language model, there is one rule. A loss that is a
mean over samples takes any leading dimensions; every position is a sample, as if they were flattened. A loss that
relates the samples of a batch to each other refuses them, because the user must decide what a sample is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from stillroom.losses.finite import can_look_at, check_values
from stillroom.losses.tensors import check_levels, check_tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def check_logits(student_logits: Tensor, teacher_logits: Tensor, *, leading: bool = False) -> None:
    """Refuse logits that no logit loss can compare.

    Args:
        student_logits: expected (B, C), floating, B >= 1, C >= 2; with ``leading`` (..., C).
        teacher_logits: expected the same shape and device; its floating dtype may differ.
        leading: whether any number of leading dimensions is allowed, as for a mean over samples.

    Raises:
        ValueError: an argument is no tensor, not two-dimensional (or more, with ``leading``), not floating, empty, has
            fewer than two classes, or the two disagree in shape or device.
        NotFinite: one holds NaN or infinite values (CPU only, see :mod:`stillroom.losses.finite`); a ValueError too.

    Example:
        >>> check_logits(torch.zeros(4, 10), torch.zeros(4, 100))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: teacher_logits has shape (4, 100) but student_logits has shape (4, 10): both need (B, C) ...
    """
    for name, logits in (("student_logits", student_logits), ("teacher_logits", teacher_logits)):
        check_tensor(name, logits)
        if not logits.is_floating_point():
            raise ValueError(f"{name} has dtype {logits.dtype}: logits must be floating, convert with .float()")
        if logits.dim() < 2:
            raise ValueError(f"{name} has shape {tuple(logits.shape)}: logits must be two-dimensional (B, C)")
        if logits.dim() > 2 and not leading:
            raise ValueError(
                f"{name} has shape {tuple(logits.shape)}: logits must be two-dimensional (B, C), because this loss "
                "relates the samples of a batch; to count every position as a sample, flatten the leading dimensions "
                "of all arguments yourself: logits.flatten(0, -2), target.flatten()"
            )
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"teacher_logits has shape {tuple(teacher_logits.shape)} but student_logits has shape "
            f"{tuple(student_logits.shape)}: both need (B, C) for the same samples and the same classes"
        )
    if student_logits.device != teacher_logits.device:
        raise ValueError(
            f"teacher_logits is on {teacher_logits.device} but student_logits is on "
            f"{student_logits.device}: move one with .to(device)"
        )
    if 0 in student_logits.shape[:-1]:
        size = "batch size 0" if student_logits.dim() == 2 else f"shape {tuple(student_logits.shape)}"
        raise ValueError(f"student_logits has {size}: the mean over an empty batch is undefined, skip it")
    if student_logits.shape[-1] < 2:
        shape = "" if student_logits.dim() == 2 else f"shape {tuple(student_logits.shape)}, "
        raise ValueError(f"student_logits has {shape}{student_logits.shape[-1]} class: distillation needs C >= 2")
    check_values("student_logits", student_logits)
    if teacher_logits is not student_logits:
        check_values("teacher_logits", teacher_logits)


def check_target(target: Tensor, student_logits: Tensor) -> None:
    """Refuse labels that do not fit the logits.

    Args:
        target: expected (B,), int64, each in [0, C); or the leading dimensions of the logits, whatever they are.
        student_logits: (B, C) or (..., C), already checked.

    Raises:
        ValueError: ``target`` is no tensor; its shape, dtype or device does not fit; or a label is outside [0, C),
            which is checked on the CPU outside compiled code only: elsewhere the check would need a synchronisation,
            and the indexing kernel raises an error of its own.

    Example:
        >>> check_target(torch.zeros(3), torch.zeros(3, 10))
        Traceback (most recent call last):
        ...
        ValueError: target has dtype torch.float32: class indices must be torch.int64, convert with .long()
    """
    check_tensor("target", target)
    if target.dtype != torch.int64:
        raise ValueError(f"target has dtype {target.dtype}: class indices must be torch.int64, convert with .long()")
    if target.shape != student_logits.shape[:-1]:
        raise ValueError(
            f"target has shape {tuple(target.shape)}: it must hold one class index per row of student_logits, "
            f"which has shape {tuple(student_logits.shape)}"
        )
    if target.device != student_logits.device:
        raise ValueError(
            f"target is on {target.device} but student_logits is on {student_logits.device}: move one with .to(device)"
        )
    if can_look_at(target):
        _check_range(target, student_logits.shape[-1])


def _check_range(target: Tensor, classes: int) -> None:
    """Refuse a label that names no class."""
    try:
        lowest, highest = (int(end) for end in target.aminmax())
    except RuntimeError:  # under vmap, and in fake tensors, there is no number
        return
    if lowest < 0:
        raise ValueError(
            f"target holds {lowest}: class indices must lie in [0, {classes}); drop rows without a label first: "
            "keep = target >= 0, then logits[keep] of both networks and target[keep]"
        )
    if highest >= classes:
        raise ValueError(
            f"target holds {highest}: class indices must lie in [0, {classes}) for logits of {classes} classes; "
            "count labels from 0, or drop such rows from all arguments"
        )


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not a finite number above zero with a ValueError.

    Example:
        >>> check_temperature(0.0)
        Traceback (most recent call last):
        ...
        ValueError: temperature is 0.0: it must be finite and above 0 (4.0 is usual)
    """
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}: it must be finite and above 0 (4.0 is usual)")


def check_reduction(reduction: str) -> None:
    """Refuse a reduction other than "mean" and "none" with a ValueError."""
    if reduction not in ("mean", "none"):
        raise ValueError(f"reduction is {reduction!r}: give 'mean' or 'none'")


def check_finite(**numbers: float) -> None:
    """Refuse weights and constants that are infinite or NaN.

    Args:
        **numbers: argument name to value.

    Raises:
        ValueError: naming the first argument that is not finite.

    Example:
        >>> check_finite(alpha=1.0, beta=float("nan"))
        Traceback (most recent call last):
        ...
        ValueError: beta is nan: it must be a finite number
    """
    for name, number in numbers.items():
        if not -math.inf < number < math.inf:
            raise ValueError(f"{name} is {number}: it must be a finite number")


def check_positive(**numbers: float) -> None:
    """Refuse exponents and scales that are not finite numbers above zero.

    Args:
        **numbers: argument name to value.

    Raises:
        ValueError: naming the first argument that is zero, negative, infinite or NaN.

    Example:
        >>> check_positive(gamma=-0.5)
        Traceback (most recent call last):
        ...
        ValueError: gamma is -0.5: it must be finite and above 0
    """
    for name, number in numbers.items():
        if not 0.0 < number < math.inf:
            raise ValueError(f"{name} is {number}: it must be finite and above 0")


def check_maps(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> None:
    """Refuse feature maps that cannot be compared level by level; channels, height and width may differ.

    Args:
        student_maps: expected a sequence of (B, C, H, W), floating, at least one, B >= 1.
        teacher_maps: expected as many, with the same B on the same device.

    Raises:
        ValueError: naming the argument, its place in the sequence and what is wrong.

    Example:
        >>> check_maps([torch.zeros(2, 3, 4, 4)], [])
        Traceback (most recent call last):
        ...
        ValueError: student_maps has 1 and teacher_maps 0 levels: give as many maps of both, at least one
    """
    check_levels("student_maps", student_maps)
    check_levels("teacher_maps", teacher_maps)
    if len(student_maps) != len(teacher_maps) or not student_maps:
        raise ValueError(
            f"student_maps has {len(student_maps)} and teacher_maps {len(teacher_maps)} levels: "
            "give as many maps of both, at least one"
        )
    for level, pair in enumerate(zip(student_maps, teacher_maps, strict=True)):
        for name, feature in zip((f"student_maps[{level}]", f"teacher_maps[{level}]"), pair, strict=True):
            check_feature(name, feature, dimensions=4, shape="(B, C, H, W)")
        check_pair(f"student_maps[{level}]", pair[0], f"teacher_maps[{level}]", pair[1])


def check_embeddings(student_embedding: Tensor, teacher_embedding: Tensor) -> None:
    """Refuse embeddings that cannot be compared sample by sample; their widths may differ.

    Args:
        student_embedding: expected (B, D), floating, B >= 1.
        teacher_embedding: expected (B, E), floating, on the same device.

    Raises:
        ValueError: naming the argument and what is wrong.

    Example:
        >>> check_embeddings(torch.zeros(2, 3), torch.zeros(4, 3))
        Traceback (most recent call last):
        ...
        ValueError: teacher_embedding has batch size 4 but student_embedding has 2: give both for the same samples
    """
    check_feature("student_embedding", student_embedding, dimensions=2, shape="(B, D)")
    check_feature("teacher_embedding", teacher_embedding, dimensions=2, shape="(B, D)")
    check_pair("student_embedding", student_embedding, "teacher_embedding", teacher_embedding)


def check_feature(name: str, feature: Tensor, *, dimensions: int, shape: str) -> None:
    """Refuse a feature of another dtype, number of dimensions, or without samples.

    Args:
        name: the argument's name.
        feature: expected floating with this many dimensions and no empty one.
        dimensions: the expected number.
        shape: how to write the expected shape.

    Raises:
        ValueError: naming the argument and what is wrong; also where it is no tensor.
        NotFinite: it holds NaN or infinite values (CPU only).
    """
    check_tensor(name, feature)
    if not feature.is_floating_point():
        raise ValueError(f"{name} has dtype {feature.dtype}: features must be floating, convert with .float()")
    if feature.dim() != dimensions:
        positions = dimensions == 2 and feature.dim() == 3
        hint = "; to count every position as a sample, flatten it yourself: .flatten(0, 1)" if positions else ""
        raise ValueError(f"{name} has shape {tuple(feature.shape)}: it must be {shape}{hint}")
    if 0 in feature.shape:
        raise ValueError(f"{name} has shape {tuple(feature.shape)}: it is empty, skip it")
    check_values(name, feature)


def check_pair(student_name: str, student: Tensor, teacher_name: str, teacher: Tensor) -> None:
    """Refuse two features of different samples or on different devices.

    Raises:
        ValueError: naming both arguments.
    """
    if student.shape[0] != teacher.shape[0]:
        raise ValueError(
            f"{teacher_name} has batch size {teacher.shape[0]} but {student_name} has {student.shape[0]}: "
            "give both for the same samples"
        )
    if student.device != teacher.device:
        raise ValueError(
            f"{teacher_name} is on {teacher.device} but {student_name} is on {student.device}: "
            "move one with .to(device)"
        )


def check_same_shape(student_name: str, student: Tensor, teacher_name: str, teacher: Tensor, *, fix: str) -> None:
    """Refuse two features of different shapes where the definition compares them element by element.

    Args:
        student_name: argument name.
        student: any shape.
        teacher_name: argument name.
        teacher: expected the same shape.
        fix: what to do about it.

    Raises:
        ValueError: naming both arguments and the fix.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"{student_name} has shape {tuple(student.shape)} but {teacher_name} has {tuple(teacher.shape)}: {fix}"
        )
