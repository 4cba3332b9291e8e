"""LSKD: both networks' logits become z-scores, row by row, before any logit loss compares them."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor, nn

EPSILON = 1e-7  # added to the standard deviation, as published


def standardize(logits: Tensor) -> Tensor:
    """Return each row's z-scores.

    z = (logits - mean) / (std + 1e-7), with the unbiased standard deviation; the gradient flows through both. A
    constant row becomes zeros. Computed at the row's own scale, so large logits do not overflow.

    Args:
        logits: (B, C), any floating dtype, C >= 2; computed in float32 at least.

    Returns:
        (B, C), float32 (float64 if the input is).

    Raises:
        ValueError: logits is not of shape (B, C) with C >= 2.

    Reference:
        Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, arXiv 2403.01427.

    Example:
        >>> standardize(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[-1.,  0.,  1.]])
    """
    if logits.ndim != 2 or logits.shape[1] < 2:
        raise ValueError(f"logits has shape {tuple(logits.shape)}: give (B, C) with C >= 2")
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scale = wide.detach().abs().amax(1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0)
    relative = wide / scale
    spread = relative.std(1, keepdim=True) + EPSILON / scale
    return (relative - relative.mean(1, keepdim=True)) / spread


class Standardized(nn.Module):
    """Another logit loss on standardised logits.

    Args:
        loss: a module whose ``forward`` takes ``student_logits``, ``teacher_logits`` and perhaps ``target``. The paper
            gives it temperature 2 and, for KD, weight 9.

    Raises:
        ValueError: if the loss takes anything else.

    Example:
        >>> from stillroom.losses import KD
        >>> Standardized(KD(temperature=2.0))
        Standardized(
          (loss): KD(temperature=2.0)
        )
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        asked = tuple(inspect.signature(loss.forward).parameters)
        if asked[:2] != ("student_logits", "teacher_logits") or asked[2:] not in ((), ("target",)):
            raise ValueError(
                f"loss is {type(loss).__name__} with forward({', '.join(asked)}): "
                "give one with forward(student_logits, teacher_logits) or forward(..., target)"
            )
        self.loss = loss
        self._with_target = len(asked) == 3

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None = None) -> Tensor:
        """Return the inner loss of two standardised (B, C) logits; ``target`` (B,) goes on to it if it wants one."""
        extra = (target,) if self._with_target else ()
        loss: Tensor = self.loss(standardize(student_logits), standardize(teacher_logits.detach()), *extra)
        return loss
