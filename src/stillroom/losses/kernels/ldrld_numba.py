"""LDRLD as one compiled function, for the CPU: a row's selection, loss and gradient while it is in the cache.

The formulas are those of :mod:`stillroom.losses.kernels.ldrld`, without the overhead of separate tensor operations.
Numba compiles the function at the first call, in a few seconds, and caches the machine code on disk. It runs in one
thread. Importing this module imports Numba.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numba import njit

from stillroom.losses.kernels.class_choice import CHOOSERS, Chooser

if TYPE_CHECKING:
    from torch import Tensor

Floats: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
Ints: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

# The flags that let sums and polynomials be vectorised. Infinities keep their meaning: they mark excluded classes.
FAST = {"reassoc", "contract", "nsz", "arcp", "afn"}

LOWEST = np.float32(-np.inf)
LOWEST_POWER = np.float32(-125.0)  # of two, above the subnormal numbers
ONE, TWO, ZERO = np.float32(1.0), np.float32(2.0), np.float32(0.0)
STUDENT, TEACHER, UNION = range(len(CHOOSERS))
LOG2_E = np.float32(1.0 / math.log(2.0))
# 2^f = sum_k (f ln 2)^k / k!, for |f| <= 1/2 to 5e-9.
EXP2 = tuple(np.float32(math.log(2.0) ** k / math.factorial(k)) for k in range(8))
# log(1 + e) = 2 artanh(s) = sum_k 2 s^(2k + 1) / (2k + 1) at s = e / (2 + e) <= 1/3, to 1e-8 of itself.
ARTANH = tuple(np.float32(2.0 / (2 * k + 1)) for k in range(7))


def loss_and_gradient(
    student: Tensor,
    teacher: Tensor,
    weights: Tensor,
    rntk_weight: float,
    temperature: float,
    mean: bool,
    chosen_by: Chooser,
) -> tuple[Tensor, Tensor]:
    """Return the loss, mean or (B,), and the gradient of the sum over it.

    Args:
        student: (B, C), float32, on the CPU.
        teacher: same.
        weights: (d, d) float32, symmetric: W_ij of the pairs off the diagonal, w_llki all along it; 2 <= d <= C.
        rntk_weight: weight of the KL over the C - d others.
        temperature: above 0.
        mean: over the batch, in loss and gradient.
        chosen_by: as in :func:`~stillroom.losses.kernels.class_choice.choose_classes`.
    """
    batch, classes = student.shape
    loss = student.new_empty(1 if mean else batch)
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    # One remaining class has probability 1 under both networks: nothing to compare.
    rest = rntk_weight if weights.shape[0] < classes - 1 else 0.0
    scale = temperature**2 / batch if mean else temperature**2
    tensors = (student.detach().contiguous(), teacher.contiguous(), weights, loss, gradient)
    numbers = (np.float32(rest), np.float32(1.0 / temperature), np.float32(scale))
    _rows(*(tensor.numpy() for tensor in tensors), *numbers, CHOOSERS.index(chosen_by))
    return loss[0] if mean else loss, gradient


@njit(fastmath=FAST)
def _exp(x: np.float32) -> np.float32:
    """e^x for x <= 0; 0 below -86, -inf included."""
    power = x * LOG2_E
    whole = np.rint(power)
    rest = power - whole
    value = EXP2[7]
    for k in (6, 5, 4, 3, 2, 1, 0):
        value = value * rest + EXP2[k]
    exponent = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23))
    return value * exponent.view(np.float32) if power > LOWEST_POWER else ZERO


@njit(fastmath=FAST)
def _log1p(e: np.float32) -> np.float32:
    """log(1 + e) for 0 <= e <= 1."""
    s = e / (TWO + e)
    square = s * s
    value = ARTANH[6]
    for k in (5, 4, 3, 2, 1, 0):
        value = value * square + ARTANH[k]
    return s * value


@njit(fastmath=FAST)
def _select(logits: Floats, values: Floats, classes: Ints) -> None:
    """The largest logits and their classes, in order; of equal logits the lower class comes first."""
    last = len(values) - 1
    values[:] = LOWEST
    for c in range(len(logits)):
        logit = logits[c]
        if logit > values[last]:
            rank = last
            while rank > 0 and logit > values[rank - 1]:
                values[rank], classes[rank] = values[rank - 1], classes[rank - 1]
                rank -= 1
            values[rank], classes[rank] = logit, c


@njit
def _choose(student: Floats, teacher: Floats, chosen_by: int, values: Floats, classes: Ints, other: Ints) -> None:
    """The classes by their ranks, unless the student alone chooses; ``values`` and ``other`` are buffers."""
    depth = len(classes)
    _select(teacher, values, other)
    if chosen_by == TEACHER:
        classes[:] = other
        return
    _select(student, values, classes)
    keys, union = np.empty(2 * depth, np.int64), np.empty(2 * depth, np.int64)
    union[:depth], union[depth:] = classes, other
    for i in range(depth):
        keys[i], keys[depth + i] = i + depth, depth + i  # the sum of the ranks from 0: the other network lacks it
    for i in range(depth):
        for j in range(depth):
            if classes[i] == other[j]:
                keys[i], keys[depth + j] = i + j, 3 * depth  # what both have counts once
    for rank in range(depth):
        best = 0
        for i in range(1, 2 * depth):
            # Of equal sums the student's candidate with the higher rank comes first.
            if keys[i] < keys[best]:
                best = i
        classes[rank], keys[best] = union[best], 4 * depth


@njit
def _by_student(student: Floats, classes: Ints, values: Floats, order: Ints) -> None:
    """Sort the classes by the student's logits, as ``_pairs`` expects; ``order`` becomes the rank each one had."""
    for rank in range(len(classes)):
        c, logit, place = classes[rank], student[classes[rank]], rank
        while place > 0 and logit > values[place - 1]:
            values[place], classes[place], order[place] = values[place - 1], classes[place - 1], order[place - 1]
            place -= 1
        values[place], classes[place], order[place] = logit, c, rank


@njit
def _by_rank(weights: Floats, order: Ints, pair_weights: Floats) -> None:
    """Write the weight of each pair of places, whose ranks ``order`` holds."""
    pair = 0
    for i in range(len(order)):
        for j in range(i + 1, len(order)):
            pair_weights[pair] = weights[order[i], order[j]]
            pair += 1


@njit(fastmath=FAST)
def _pairs(
    student: Floats, teacher: Floats, weights: Floats, inverse: np.float32, x: Floats, y: Floats, gradient: Floats
) -> np.float32:
    """The weighted sum of the KLs of all two-way softmaxes; x and y are buffers with one value per pair."""
    depth = len(student)
    pair = 0
    for i in range(depth):
        for j in range(i + 1, depth):
            x[pair], y[pair] = (student[i] - student[j]) * inverse, (teacher[i] - teacher[j]) * inverse
            pair += 1
    loss = ZERO
    for pair in range(len(x)):
        # The student's gap is never negative. Where the teacher's is, its two outcomes are exchanged.
        gap_q, gap_p = x[pair], y[pair]
        small_q, small_p = _exp(-gap_q), _exp(-abs(gap_p))
        q, p = ONE / (ONE + small_q), ONE / (ONE + small_p)
        log_q, log_p = -_log1p(small_q), -_log1p(small_p)
        p = p if gap_p >= ZERO else small_p * p
        log_p = log_p if gap_p >= ZERO else log_p + gap_p
        loss += weights[pair] * (p * (log_p - log_q) + (ONE - p) * ((log_p - gap_p) - (log_q - gap_q)))
        x[pair] = weights[pair] * (q - p)
    gradient[:] = ZERO
    pair = 0
    for i in range(depth):
        for j in range(i + 1, depth):
            gradient[i] += x[pair]
            gradient[j] -= x[pair]
            pair += 1
    return loss


@njit(fastmath=FAST)
def _whole(student: Floats, teacher: Floats, weight: np.float32, inverse: np.float32) -> np.float32:
    """The weighted KL of two softmaxes; -inf in both excludes a class. ``student`` is overwritten by the gradient."""
    largest_q, largest_p = _largest(student), _largest(teacher)
    sum_q, sum_p, gaps = ZERO, ZERO, ZERO
    for c in range(len(student)):
        z_q, z_p = (student[c] - largest_q) * inverse, (teacher[c] - largest_p) * inverse
        power_q, power_p = _exp(z_q), _exp(z_p)
        sum_q += power_q
        sum_p += power_p
        gaps += power_p * (z_p - z_q if power_p > ZERO else ZERO)
        student[c], teacher[c] = power_q, power_p
    # Unlike a difference of two quotients, this is exactly 0 where the networks agree.
    scale, ratio = weight / sum_q, sum_q / sum_p
    for c in range(len(student)):
        student[c] = (student[c] - teacher[c] * ratio) * scale
    return weight * (gaps / sum_p + math.log(ratio))


@njit(fastmath=FAST | {"nnan"})
def _largest(values: Floats) -> np.float32:
    largest = LOWEST
    for value in values:
        largest = max(value, largest)
    return largest


@njit(cache=True, nogil=True, fastmath=FAST, error_model="numpy")
def _rows(
    student: Floats,
    teacher: Floats,
    weights: Floats,
    loss: Floats,
    gradient: Floats,
    rntk_weight: np.float32,
    inverse: np.float32,
    scale: np.float32,
    chosen_by: int,
) -> None:
    """Write the losses of the rows, or their sum into a ``loss`` of length 1, and the gradient.

    ``inverse`` is 1 / T, ``scale`` T^2, over the batch size for a mean, ``chosen_by`` a place in ``CHOOSERS``.
    """
    (batch, classes), depth = student.shape, len(weights)
    # zeros: valid classes, whatever the logits are
    top, other, order = np.zeros(depth, np.int64), np.zeros(depth, np.int64), np.arange(depth)
    local = np.empty((3, depth), np.float32)
    local_student, local_teacher, local_gradient = local[0], local[1], local[2]
    pairs = np.empty((3, depth * (depth - 1) // 2), np.float32)
    x, y, pair_weights = pairs[0], pairs[1], pairs[2]
    rest = np.empty((2, classes), np.float32)
    rest_student, rest_teacher = rest[0], rest[1]
    _by_rank(weights, order, pair_weights)
    slope, total = scale * inverse, 0.0
    for row in range(batch):
        if chosen_by == STUDENT:
            _select(student[row], local_student, top)
        else:
            _choose(student[row], teacher[row], chosen_by, local_student, top, other)
            _by_student(student[row], top, local_student, order)
            _by_rank(weights, order, pair_weights)
        for rank in range(depth):
            local_teacher[rank] = teacher[row, top[rank]]
        value = _pairs(local_student, local_teacher, pair_weights, inverse, x, y, local_gradient)
        value += _whole(local_student, local_teacher, weights[0, 0], inverse)
        if rntk_weight != ZERO:
            rest_student[:], rest_teacher[:] = student[row], teacher[row]
            for rank in range(depth):
                rest_student[top[rank]] = rest_teacher[top[rank]] = LOWEST
            value += _whole(rest_student, rest_teacher, rntk_weight, inverse)
            for c in range(classes):
                gradient[row, c] = rest_student[c] * slope
        else:
            gradient[row] = ZERO
        for rank in range(depth):
            gradient[row, top[rank]] = (local_gradient[rank] + local_student[rank]) * slope
        total += value
        if len(loss) == batch:
            loss[row] = scale * value
    if len(loss) != batch:
        loss[0] = scale * total
