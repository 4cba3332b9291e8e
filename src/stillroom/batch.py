"""What flows between the parts: a batch of images goes in, an output comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Images ready for a model, with their labels and their sample ids.

    Attributes:
        images: float tensor (B, channels, H, W), normalised.
        labels: int64 tensor (B,), values in [0, classes).
        ids: int64 tensor (B,), the place of each image in its full set, the same in every epoch and process.
        strong: the same images in a second, strongly augmented view, like ``images`` in all else; None unless the
            loader was asked for it.
        stand_in: whether the batch has no images for this process. Its one image is another process's then: models and
            losses get something to work on, and it must not count.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    strong: Tensor | None = None
    stand_in: bool = False


@dataclass(frozen=True, slots=True)
class Output:
    """What a classifier says about a batch.

    Attributes:
        logits: float tensor (B, classes).
        parts: what else was read in the same pass, by name: "features", "maps", "embedding", "logits_strong" ...
    """

    logits: Tensor
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> tuple[Tensor, ...]:
        """The tapped intermediate tensors in the order they were asked for; empty when none were."""
        return tuple(self.parts.get("features", ()))
