"""What flows between the parts: a batch of pictures goes in, an output comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures ready for a model, with their labels and their sample ids.

    Attributes:
        images: float tensor (B, channels, H, W), normalised.
        labels: int64 tensor (B,), values in [0, classes).
        ids: int64 tensor (B,), the place of each picture in its full set, the same in every epoch and process.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor


@dataclass(frozen=True, slots=True)
class Output:
    """What a classifier says about a batch.

    Attributes:
        logits: float tensor (B, classes).
        features: the tapped intermediate tensors in the order they were asked for; empty when none were.
    """

    logits: Tensor
    features: tuple[Tensor, ...] = ()
