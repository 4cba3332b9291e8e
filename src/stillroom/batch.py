"""A batch of images, and the output of a classifier for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Mixture:
    """The second images in the mixed images of a batch (mixup, CutMix).

    Attributes:
        labels: int64 tensor (B,), the labels of the second images; -1 for one without a label.
        fraction: float32 tensor (B,), the fraction of the first image, in [0, 1]; 1 for an image that is not mixed.
    """

    labels: Tensor
    fraction: Tensor


@dataclass(frozen=True, slots=True)
class Batch:
    """Images for a model, with labels and sample ids.

    Attributes:
        images: float tensor (B, channels, H, W), normalised.
        labels: int64 tensor (B,), values in [0, classes); -1 for an image without a label.
        ids: int64 tensor (B,), the index of each image in its full set, the same in every epoch and process.
        strong: a second, strongly augmented view of the same images, in the same form as ``images``; None unless the
            loader makes one.
        stand_in: whether the step has no image for this process. The batch then has one image of another process, so
            that models and losses can run; it must not be counted.
        pixels: the view that ``images`` shows, before it was resized and normalised: uint8 or float32 tensor
            (B, channels, H, W) with values in [0, 255]. A teacher with an input format of its own is given this.
        strong_pixels: the same for ``strong``.
        epoch: whose order and augmentation the training images have, from 1: the epoch of training, or an earlier one
            where the loader repeats views; 0 for images without augmentation, such as those of validation; below 0
            for images of which no bank stores predictions.
        start: position of the first image among this process's images of the epoch.
        mixture: what the images are mixed with; None where none is mixed. ``labels`` and ``ids`` are those of the first
            images. All views show the same mixture.
        targets: what a task other than classification learns of each image, such as its boxes in pixels of ``images``;
            empty for classification. Images of different sizes are padded with zeros at their right and lower edges.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor
    strong: Tensor | None = None
    stand_in: bool = False
    pixels: Tensor | None = None
    strong_pixels: Tensor | None = None
    epoch: int = 0
    start: int = 0
    mixture: Mixture | None = None
    targets: tuple[Any, ...] = ()

    @property
    def main_labels(self) -> Tensor:
        """The label of the larger fraction of each image, int64 (B,); the first one where both are equal."""
        if self.mixture is None:
            return self.labels
        return self.labels.where(self.mixture.fraction >= 0.5, self.mixture.labels)


@dataclass(frozen=True, slots=True)
class Output:
    """A classifier's output for a batch.

    Attributes:
        logits: float tensor (B, classes).
        parts: other tensors of the same forward pass, by name: "features", "maps", "embedding", "logits_strong" ...
    """

    logits: Tensor
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def features(self) -> tuple[Tensor, ...]:
        """The captured intermediate tensors in the requested order; empty if there are none."""
        return tuple(self.parts.get("features", ()))
