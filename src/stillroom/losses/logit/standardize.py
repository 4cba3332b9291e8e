"""LSKD, logit standardization: a logit loss compares the z-scores of both networks' logits, row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from stillroom.losses.checks import check_logits
from stillroom.losses.protocol import Offer, needs_of, properties_of, rows_of, stream_rows_of
from stillroom.losses.tensors import check_tensor

EPSILON = 1e-7  # added to the standard deviation, as published


def standardize(logits: Tensor) -> Tensor:
    """Return each row's z-scores.

    z = (logits - mean) / (std + 1e-7), with the unbiased standard deviation; the gradient flows through both. A
    constant row becomes zeros. Computed at the row's own scale, so large logits do not overflow.

    Args:
        logits: (B, C) or (..., C), any floating dtype, C >= 2; computed in float32 at least.

    Returns:
        The same shape, float32 (float64 if the input is).

    Raises:
        ValueError: logits is no tensor of shape (B, C) or (..., C) with C >= 2.

    Reference:
        Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv 2403.01427.

    Example:
        >>> standardize(torch.tensor([[1.0, 2.0, 3.0]])).round(decimals=4)
        tensor([[-1.,  0.,  1.]])
    """
    check_tensor("logits", logits)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(f"logits has shape {tuple(logits.shape)}: give (B, C) or (..., C) with C >= 2")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scale = wide.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    relative = wide / scale
    # A large constant row is divided by epsilon alone. The lower bound keeps its gradient in range; it is too small to
    # change any other row.
    guard = (EPSILON / scale).clamp_min(torch.finfo(wide.dtype).eps ** 2)
    return (relative - relative.mean(-1, keepdim=True)) / (relative.std(-1, keepdim=True) + guard)


class Standardized(nn.Module):
    """Another logit loss on standardised logits.

    Standardized has the inner loss's parameters (CTKD's temperature) and declares what the inner loss declares.
    :class:`MLKD` standardises only one of its parts: it has a switch of its own and is refused here.

    Args:
        loss: a module whose ``forward`` takes ``student_logits``, ``teacher_logits`` and perhaps ``target`` and
            ``epoch``. The paper gives it temperature 2 and, for KD, weight 9.

    Attributes:
        needs: the names of what the inner loss takes, in its order.

    Raises:
        ValueError: the loss takes anything else, or as :func:`stillroom.losses.protocol.properties_of`.

    Example:
        >>> from stillroom.losses import KD
        >>> Standardized(KD(temperature=2.0))
        Standardized(
          (loss): KD(temperature=2.0)
        )
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        needs = needs_of(loss)
        if "student_logits_strong" in needs:
            raise ValueError(
                f"loss is {type(loss).__name__}, which compares two views: give a loss on one view; "
                "MLKD standardises its instance part by itself, use MLKD(standardized=True)"
            )
        if needs[:2] != ("student_logits", "teacher_logits") or not {*needs[2:]} <= {"target", "epoch"}:
            raise ValueError(
                f"loss is {type(loss).__name__} with forward({', '.join(needs)}): "
                "give one with forward(student_logits, teacher_logits) and perhaps target and epoch"
            )
        self.loss = loss
        self.needs = needs
        inner = properties_of(loss)
        self.per_sample, self.draws = inner.per_sample, inner.draws
        self.initial_epochs, self.final_epoch = inner.initial_epochs, inner.final_epoch
        # A z-score ignores a constant and keeps the largest logit, but depends on the spread of all of them.
        self.teacher_offer: Offer = "labels" if inner.teacher_offer == "labels" else "probabilities"

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None, epoch: int = 1
    ) -> Tensor:
        """Return the inner loss of two standardised (B, C) logits; ``target`` (B,) and ``epoch`` go on to it.

        Raises:
            ValueError: the logits do not fit each other, the inner loss needs labels and there are none, or it
                refuses its input.
        """
        check_logits(student_logits, teacher_logits, leading=True)
        extras = self._extras(target, epoch)
        loss: Tensor = self.loss(standardize(student_logits), standardize(teacher_logits.detach()), **extras)
        return loss

    @property
    def connect(self) -> Callable[..., nn.Module] | None:
        """The inner loss's ``connect``; None where it has none."""
        return getattr(self.loss, "connect", None)

    @property
    def rows(self) -> Callable[..., Tensor] | None:
        """The inner loss's (B,) losses of the samples, from standardised logits; None where it has none."""
        return None if rows_of(self.loss) is None else self._rows

    def _rows(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None, epoch: int = 1
    ) -> Tensor:
        rows = rows_of(self.loss)
        assert rows is not None
        check_logits(student_logits, teacher_logits, leading=True)
        return rows(standardize(student_logits), standardize(teacher_logits.detach()), **self._extras(target, epoch))

    @property
    def stream_rows(self) -> Callable[..., Mapping[str, Tensor]] | None:
        """The inner loss's parts by gradient stream, from standardised logits; None where it has none."""
        return None if stream_rows_of(self.loss) is None else self._stream_rows

    def _stream_rows(
        self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None, epoch: int = 1
    ) -> Mapping[str, Tensor]:
        parts = stream_rows_of(self.loss)
        assert parts is not None
        check_logits(student_logits, teacher_logits, leading=True)
        return parts(standardize(student_logits), standardize(teacher_logits.detach()), **self._extras(target, epoch))

    def _extras(self, target: Tensor | None, epoch: int) -> dict[str, Tensor | int | None]:
        """What the inner loss takes besides logits."""
        if "target" in self.needs and target is None:
            raise ValueError(f"target is None: {type(self.loss).__name__} needs the labels, give (B,) int64")
        extras = {"target": target, "epoch": epoch}
        return {name: extras[name] for name in self.needs[2:]}
