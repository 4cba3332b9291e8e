"""GKL, generalized Kullback-Leibler loss: KL split into weighted squared logit differences and a soft cross-entropy."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from stillroom.losses.checks import (
    check_feature,
    check_finite,
    check_logits,
    check_positive,
    check_same_shape,
    check_target,
    check_temperature,
)
from stillroom.losses.connectors import not_connected
from stillroom.losses.finite import check_result
from stillroom.losses.given_gradient import wants_gradient, with_gradient
from stillroom.losses.numerics import or_one, widen
from stillroom.losses.protocol import settings_repr


def gkl(
    student_logits: Tensor,
    teacher_logits: Tensor,
    weights: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 16.0,
    gamma: float = 0.05,
    temperature: float = 4.0,
    weight_temperature: float = 4.0,
    normalize: bool = True,
) -> Tensor:
    """Compute the generalized Kullback-Leibler loss.

    With the difference ``e = t - s`` of the raw logits and weights w of the classes of each sample,

        GKL = beta * 1/4 * sum_b sum_jk w_j w_k (e_j - e_k)^2 / N - alpha/B * sum_b sum_c p_c log q_c
        p = softmax(t / T),  q = softmax(s / T),  N = sum_b (sum_c w_c)^2

    With the variance of e in each sample, the sum over pairs needs O(B C) steps and memory. The soft cross-entropy
    contains the teacher's entropy, so the loss is >= 0 and not 0 where the networks agree; the gradient is. It has no
    T^2. Neither the cross-entropy with the labels nor the published warm-up is included. Double backward is not
    available.

    IKL, the earlier form, is ``gamma=1, normalize=False``.

    Args:
        student_logits: (B, C), any floating dtype; computed in float32 at least.
        teacher_logits: the same shape; no gradient reaches it.
        weights: (B, C), >= 0, before the exponent, such as the row of a class table for each sample's label; no
            gradient reaches them. None takes softmax(t / weight_temperature) of each sample.
        alpha: weight of the soft cross-entropy.
        beta: weight of the pairwise differences.
        gamma: exponent of the weights, at least 0; 0 gives all classes the same weight.
        temperature: T of the cross-entropy, above 0.
        weight_temperature: of the softmax in the weights, above 0.
        normalize: divide by N, the weight of the whole batch. Without, N is B.

    Returns:
        A scalar, float32 (float64 if a network's logits are).

    Raises:
        ValueError: the logits or the weights disagree in shape or device, are not (B, C) floating, B = 0 or C < 2;
            alpha or beta is not finite; gamma is negative; or a temperature is not finite and above 0.
        NotFinite: the squared differences are beyond the dtype (CPU only).

    Reference:
        Cui et al., "Decoupled Kullback-Leibler Divergence Loss", NeurIPS 2024, arXiv 2305.13948 (IKL), and its
        extension "Generalized Kullback-Leibler Divergence Loss" (GKL).

    Example:
        >>> student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0, 2.0, 5.0]])
        >>> gkl(student, teacher, alpha=0.0)
        tensor(7.2124)
        >>> gkl(teacher + 9.0, teacher, alpha=0.0)
        tensor(0.)
    """
    check_logits(student_logits, teacher_logits)
    _check_settings(alpha, beta, gamma, temperature, weight_temperature)
    if weights is not None:
        check_feature("weights", weights, dimensions=2, shape="(B, C)")
        check_same_shape("weights", weights, "student_logits", student_logits, fix="give one weight per logit")
        if weights.device != student_logits.device:
            raise ValueError(
                f"weights is on {weights.device} but student_logits is on {student_logits.device}: "
                "move one with .to(device)"
            )
    student, teacher = widen(student_logits, teacher_logits)
    log_p = (teacher / temperature).log_softmax(1)
    if weights is not None:
        powers = weights.detach().to(student.dtype).pow(gamma)
    else:
        same = weight_temperature == temperature
        powers = (log_p if same else (teacher / weight_temperature).log_softmax(1)).mul(gamma).exp_()
    loss = _loss(student, teacher, log_p.exp_(), powers, alpha, beta, temperature, normalize)
    check_result(loss.detach(), student_logits=student_logits, teacher_logits=teacher_logits)
    return loss


def _loss(
    student: Tensor,
    teacher: Tensor,
    p: Tensor,
    powers: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
    normalize: bool,
) -> Tensor:
    """The loss and its gradient from one pass; ``powers``, the weights with their exponent, are overwritten.

    sum_jk w_j w_k (e_j - e_k)^2 is twice W sum_j w_j (e_j - m)^2 with W = sum w and the weighted mean m, in which
    nothing cancels however far the two networks' logits are apart.
    """
    logits, batch = student.detach(), len(student)
    log_q = (logits / temperature).log_softmax(1)
    gap, total = teacher - logits, powers.sum(1, keepdim=True)
    gap.sub_((powers * gap).sum(1, keepdim=True).div_(or_one(total)))
    pull = powers.mul_(gap)
    scale = or_one(total.square().sum()) if normalize else torch.full_like(total[0, 0], batch)
    pairs = gap.mul_(pull).sum(1).mul_(total.squeeze(1)).sum() / (2 * scale)
    loss = beta * pairs - alpha / batch * (p * log_q).sum()
    if not wants_gradient(student):
        return loss
    gradient = log_q.exp_().sub_(p).mul_(alpha / (batch * temperature))
    return with_gradient(student, loss, gradient.sub_(pull.mul_(total.mul_(beta / scale))))


def _check_settings(alpha: float, beta: float, gamma: float, temperature: float, weight_temperature: float) -> None:
    check_finite(alpha=alpha, beta=beta, gamma=gamma)
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}: it must be at least 0")
    check_temperature(temperature)
    check_positive(weight_temperature=weight_temperature)


class GKL(nn.Module):
    """:func:`gkl` with its settings and the table of class weights.

    The table has a row for each class: the mean of softmax(t / weight_temperature) over the samples of the class in the
    previous epoch, to the power gamma. It is uniform in the first epoch, and a class that did not occur keeps its row.
    In training mode each forward pass adds its batch to the sums for the next epoch. Table and sums are buffers, so
    that a run resumed in the middle of an epoch goes on with the same weights.

    Args:
        alpha: weight of the soft cross-entropy.
        beta: weight of the pairwise differences.
        gamma: exponent of the weights, at least 0.
        temperature: T of the cross-entropy, above 0.
        weight_temperature: of the softmax in the weights, above 0.
        normalize: divide by the weight of the whole batch. Without, by the number of samples.
        class_weights: take the weights from the table by the label (GI in the public code). Without, they are the
            teacher's probabilities for the sample itself, and no label is read.

    Raises:
        ValueError: a setting is out of range.

    Example:
        >>> logits, target = torch.randn(4, 10), torch.arange(4)
        >>> loss = GKL(beta=8.0).connect(logits)
        >>> loss(logits, logits + 1, target, epoch=1).shape
        torch.Size([])
        >>> GKL(gamma=1.0, normalize=False, class_weights=False).per_sample
        True
    """

    table: Tensor | None
    sums: Tensor
    counts: Tensor
    sums_epoch: Tensor

    teacher_offer = "probabilities"

    def __init__(
        self,
        alpha: float = 1.0,
        beta: float = 16.0,
        gamma: float = 0.05,
        temperature: float = 4.0,
        weight_temperature: float = 4.0,
        normalize: bool = True,
        class_weights: bool = True,
    ) -> None:
        super().__init__()
        _check_settings(alpha, beta, gamma, temperature, weight_temperature)
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.temperature = temperature
        self.weight_temperature = weight_temperature
        self.normalize = normalize
        self.class_weights = class_weights
        # Every process needs the whole batch for its total weight, and for a table that is the same in all.
        self.per_sample = not (normalize or class_weights)
        if not class_weights:
            self.needs = ("student_logits", "teacher_logits")
        self._table_epoch = 0  # whose table is in place, as far as is known without reading a buffer
        for name in ("table", "sums", "counts", "sums_epoch"):
            self.register_buffer(name, None)

    def connect(self, teacher_logits: Tensor) -> Self:
        """Build the table for as many classes as the example logits (B, C) have; nothing without ``class_weights``."""
        if self.class_weights:
            classes, device = teacher_logits.shape[1], teacher_logits.device
            self.table = torch.full((classes, classes), classes**-self.gamma, device=device)
            self.sums = torch.zeros(classes, classes, device=device)
            self.counts = torch.zeros(classes, dtype=torch.int64, device=device)  # samples in each row of the sums
            self.sums_epoch = torch.zeros((), dtype=torch.int64, device=device)  # in which the sums are taken
            self._table_epoch = 0
        return self

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None, epoch: int = 1
    ) -> Tensor:
        """Return :func:`gkl` of two (B, C) logits; with ``class_weights`` for labels (B,) in an epoch from 1.

        Raises:
            RuntimeError: :meth:`connect` was not called.
            ValueError: the labels do not fit, or the logits have other classes than the table.
        """
        if not self.class_weights:
            return gkl(
                student_logits,
                teacher_logits,
                alpha=self.alpha,
                beta=self.beta,
                gamma=self.gamma,
                temperature=self.temperature,
                weight_temperature=self.weight_temperature,
                normalize=self.normalize,
            )
        table = self._checked_table(student_logits, teacher_logits, target)
        assert target is not None  # checked
        self._begin(table, epoch)
        student, teacher = widen(student_logits, teacher_logits)
        p = (teacher / self.temperature).softmax(1)
        if self.training:
            same = self.weight_temperature == self.temperature
            self._add(target, p if same else (teacher / self.weight_temperature).softmax(1))
        powers = table[target].to(student.dtype)
        loss = _loss(student, teacher, p, powers, self.alpha, self.beta, self.temperature, self.normalize)
        check_result(loss.detach(), student_logits=student_logits, teacher_logits=teacher_logits)
        return loss

    extra_repr = settings_repr

    def _checked_table(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None) -> Tensor:
        if self.table is None:
            raise not_connected(self, "teacher_logits")
        check_logits(student_logits, teacher_logits)
        if target is None:
            raise ValueError("target is None: give the labels (B,), or use class_weights=False")
        check_target(target, student_logits)
        if student_logits.shape[1] != len(self.table):
            raise ValueError(
                f"student_logits has {student_logits.shape[1]} classes but the table of class weights has "
                f"{len(self.table)}: call connect(teacher_logits) again with logits of these networks"
            )
        return self.table

    @torch.no_grad()
    def _begin(self, table: Tensor, epoch: int) -> None:
        """Put the means of a finished epoch into the table, and begin new sums.

        The epoch of the sums is a buffer. So that no step waits for a device, it is compared there, and in compiled
        code in every step.
        """
        compiling = torch.compiler.is_compiling()
        if not self.training or (not compiling and self._table_epoch == epoch):
            return
        finished = self.sums_epoch < epoch
        means = (self.sums / self.counts.clamp_min(1).unsqueeze(1)).pow_(self.gamma)
        table.copy_(torch.where((finished & (self.counts > 0)).unsqueeze(1), means, table))
        self.sums.copy_(torch.where(finished, 0.0, self.sums))
        self.counts.copy_(torch.where(finished, 0, self.counts))
        self.sums_epoch.clamp_min_(epoch)
        if not compiling:
            self._table_epoch = epoch

    @torch.no_grad()
    def _add(self, target: Tensor, probabilities: Tensor) -> None:
        """Add samples to the sums of their classes, in the same order in every run on either kind of device."""
        pairs = ((self.sums, probabilities.to(self.sums.dtype)), (self.counts, torch.ones_like(target)))
        for sums, rows in pairs:
            if sums.is_cuda:
                sums.index_put_((target,), rows, accumulate=True)
            else:
                sums.index_add_(0, target, rows)

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._table_epoch = 0  # the loaded table may be of any epoch
