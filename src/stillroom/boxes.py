"""Boxes: the objects in one image, as annotated and as a detector finds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ImageBoxes:
    """The annotated objects of one image.

    Attributes:
        boxes: float32 (n, 4), left, top, right and bottom edge in pixels of the image; n may be 0.
        labels: int64 (n,), values in [0, classes). Background has no label of its own here.
        crowd: bool (n,), whether a box holds a group of objects. Such a box is not trained on, and a detection in it
            counts neither as correct nor as wrong.
        size: height and width of the image in pixels.
        original: the same objects in pixels of the original image, where these are in a resized one.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    size: tuple[int, int]
    original: ImageBoxes | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector finds in one image.

    Attributes:
        boxes: float32 (m, 4), left, top, right and bottom edge in pixels; m may be 0.
        scores: float32 (m,), in [0, 1], in descending order.
        labels: int64 (m,), values in [0, classes).
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of detections."""
        return len(self.labels)
