"""LDRLD as one Triton kernel: selection, loss and gradient of a row in one program, for GPUs.

Its mathematics is that of :mod:`stillroom.losses.kernels.ldrld`. ``benchmarks/gpu.py`` checks it against the closed
form and times both beside KL; without a GPU, TRITON_INTERPRET=1 runs it slowly on the CPU.
"""

# No postponed annotations here: Triton reads ``tl.constexpr`` off the signature.

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

LARGEST_BLOCK = 1024  # logits a program holds at once: 80 registers a thread on sm_90, 4096 would take 255


def ldrld_triton(
    student: Tensor, teacher: Tensor, weights: Tensor, rntk_weight: float, temperature: float, *, select: bool = True
) -> Tensor:
    """Compute weighted LDRLD, its gradient in the same pass.

    Args:
        student: (B, C), float32, float16 or bfloat16, contiguous; computed in float32.
        teacher: (B, C), contiguous, detached.
        weights: (d, d) float32, symmetric: W_ij of the pairs off the diagonal, w_llki all along it; 2 <= d <= C.
        rntk_weight: weight of the KL over the C - d others.
        temperature: above 0.
        select: find the top classes in the kernel, in d passes over a row; False leaves that to torch.topk.

    Returns:
        The mean over samples, a float32 scalar.
    """
    loss: Tensor = _Fused.apply(student, teacher, weights, rntk_weight, temperature, select)
    return loss


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        student: Tensor,
        teacher: Tensor,
        weights: Tensor,
        rntk_weight: float,
        temperature: float,
        select: bool,
    ) -> Tensor:
        (batch, classes), depth = student.shape, weights.shape[0]
        top = student if select else student.detach().topk(depth).indices
        rows = student.new_empty(batch, dtype=torch.float32)
        gradient = torch.empty_like(student)
        _row[(batch,)](
            student, teacher, top, weights, rows, gradient, classes,
            1.0 / temperature, rntk_weight, temperature / batch,
            DEPTH=depth, RANKS=triton.next_power_of_2(depth), BLOCK=min(LARGEST_BLOCK, triton.next_power_of_2(classes)),
            SELECT=select, REST=rntk_weight != 0 and depth < classes - 1,
        )  # fmt: skip
        ctx.save_for_backward(gradient)
        return rows.mean() * temperature**2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None, None, None, None


@triton.jit
def _log_sigmoid(x):
    return tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _log_softmax(z, valid):
    """Over the valid ranks; the others are left at 0."""
    z = z - tl.max(tl.where(valid, z, float("-inf")), 0)
    return tl.where(valid, z - tl.log(tl.sum(tl.where(valid, tl.exp(z), 0.0), 0)), 0.0)


@triton.jit
def _top(student, classes, DEPTH: tl.constexpr, RANKS: tl.constexpr, BLOCK: tl.constexpr):
    """The classes of the largest logits in order, equal ones by their number; a row is read DEPTH times."""
    ranks = tl.arange(0, RANKS)
    chosen = tl.zeros([RANKS], dtype=tl.int64)
    last_value, last_class = float("inf"), -1
    for rank in range(DEPTH):
        best_value, best_class = float("-inf"), 0
        for start in range(0, classes, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            x = tl.load(student + columns, mask=columns < classes, other=float("-inf")).to(tl.float32)
            below = (x < last_value) | ((x == last_value) & (columns > last_class))
            value, place = tl.max(tl.where(below, x, float("-inf")), 0, return_indices=True)
            best_class = tl.where(value > best_value, start + place, best_class)
            best_value = tl.maximum(value, best_value)
        chosen = tl.where(ranks == rank, best_class, chosen)
        last_value, last_class = best_value, best_class
    return chosen


@triton.jit
def _others(logits, classes, columns, chosen, valid, inverse):
    """A block of z = logits / T in which the selected classes and the end of the row read -inf."""
    taken = tl.sum(((columns[:, None] == chosen[None, :]) & valid[None, :]).to(tl.int32), 1) > 0
    z = tl.load(logits + columns, mask=columns < classes, other=float("-inf")).to(tl.float32) * inverse
    return tl.where(taken, float("-inf"), z)


@triton.jit
def _normalizer(logits, classes, chosen, valid, inverse, BLOCK: tl.constexpr):
    """The largest z of the others, and the sum of exp(z - largest)."""
    largest, total = float("-inf"), 0.0
    for start in range(0, classes, BLOCK):
        z = _others(logits, classes, start + tl.arange(0, BLOCK), chosen, valid, inverse)
        new = tl.maximum(largest, tl.max(z, 0))
        # While only selected classes were seen, both are -inf, and exp(-inf - -inf) would be NaN.
        safe = tl.where(new == float("-inf"), 0.0, new)
        total = total * tl.exp(largest - safe) + tl.sum(tl.exp(z - safe), 0)
        largest = new
    return largest, total


@triton.jit
def _row(
    student, teacher, top, weights, rows, gradient, classes, inverse, rntk_weight, slope,
    DEPTH: tl.constexpr, RANKS: tl.constexpr, BLOCK: tl.constexpr, SELECT: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    student, teacher, gradient = student + row * classes, teacher + row * classes, gradient + row * classes
    ranks = tl.arange(0, RANKS)
    valid = ranks < DEPTH
    if SELECT:
        chosen = _top(student, classes, DEPTH, RANKS, BLOCK)
    else:
        chosen = tl.load(top + row * DEPTH + ranks, mask=valid, other=0)

    z_student = tl.load(student + chosen, mask=valid, other=0.0).to(tl.float32) * inverse
    z_teacher = tl.load(teacher + chosen, mask=valid, other=0.0).to(tl.float32) * inverse
    pair = ranks[:, None] != ranks[None, :]
    log_q = tl.where(
        pair, _log_sigmoid(z_student[:, None] - z_student[None, :]), _log_softmax(z_student, valid)[:, None]
    )
    log_p = tl.where(
        pair, _log_sigmoid(z_teacher[:, None] - z_teacher[None, :]), _log_softmax(z_teacher, valid)[:, None]
    )
    both = valid[:, None] & valid[None, :]
    weight = tl.load(weights + ranks[:, None] * DEPTH + ranks[None, :], mask=both, other=0.0)
    p = tl.exp(log_p)
    loss = tl.sum(tl.sum(weight * p * (log_p - log_q), 1), 0)
    local = tl.sum(weight * (tl.exp(log_q) - p), 1) * slope

    if REST:
        largest_s, total_s = _normalizer(student, classes, chosen, valid, inverse, BLOCK)
        largest_t, total_t = _normalizer(teacher, classes, chosen, valid, inverse, BLOCK)
        between = tl.log(total_s / total_t)
        rest = 0.0
        for start in range(0, classes, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            other_s = _others(student, classes, columns, chosen, valid, inverse) - largest_s
            other_t = _others(teacher, classes, columns, chosen, valid, inverse) - largest_t
            mine = other_s > float("-inf")
            share_s, share_t = tl.exp(other_s) / total_s, tl.exp(other_t) / total_t
            rest += tl.sum(tl.where(mine, share_t * (other_t - other_s + between), 0.0), 0)
            rise = (share_s - share_t) * (rntk_weight * slope)
            tl.store(gradient + columns, rise.to(gradient.dtype.element_ty), mask=mine)
        loss += rntk_weight * rest
    else:
        for start in range(0, classes, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            tl.store(gradient + columns, tl.zeros([BLOCK], gradient.dtype.element_ty), mask=columns < classes)
        tl.debug_barrier()  # the zeros are written before the selected classes' gradient
    tl.store(gradient + chosen, local.to(gradient.dtype.element_ty), mask=valid)
    tl.store(rows + row, loss)
