"""Boxed view: the sizes, boxes and padding of images with boxes, when they are resized, mirrored and put in a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stillroom.boxes import ImageBoxes

MULTIPLE = 32  # height and width of a batch, as in torchvision's detectors: the stride of the fifth stage

Size = tuple[int, int]


def resized_size(size: Size, image_size: int, max_size: int) -> Size:
    """Return height and width of a resized image, exactly as torchvision's detectors resize it.

    The shorter side becomes ``image_size``, or less where the longer side would exceed ``max_size``. The aspect ratio
    is kept; fractions of a pixel are cut off, after floating-point arithmetic that can make a side a pixel shorter.
    Source: ``_resize_image_and_masks`` in ``torchvision.models.detection.transform``.

    Args:
        size: height and width of the image in pixels.
        image_size: the shorter side.
        max_size: the longest side; >= ``image_size``.
    """
    scale = min(image_size / min(size), max_size / max(size))
    height, width = (max(1, math.floor(side * scale)) for side in size)
    return height, width


def padded_size(sizes: Tensor) -> Size:
    """Return height and width of a batch that has room for its images, each a multiple of 32.

    Args:
        sizes: int64 (n, 2), height and width of the images.

    Example:
        >>> padded_size(torch.tensor([[30, 64], [33, 20]]))
        (64, 64)
    """
    height, width = (-(-side // MULTIPLE) * MULTIPLE for side in sizes.amax(0).tolist())
    return height, width


def rescaled_boxes(boxes: Tensor, size: Size, new_size: Size) -> Tensor:
    """Move boxes along when their image is resized; with the sizes exchanged, move them back to the original image.

    It computes the same as ``torchvision.models.detection.transform.resize_boxes``, without its slow import.

    Args:
        boxes: float32 (n, 4), left, top, right and bottom edge in pixels of the image.
        size: height and width of the image.
        new_size: its height and width afterwards.

    Returns:
        float32 (n, 4) in pixels of the resized image.
    """
    old, new = (torch.tensor(sides[::-1], dtype=torch.float32, device=boxes.device) for sides in (size, new_size))
    return boxes * (new / old).repeat(2)


def view_boxes(objects: ImageBoxes, size: Size, *, mirror: bool) -> ImageBoxes:
    """Return the objects of an image after it is resized, and mirrored left to right; boxes end at the image's edges.

    Args:
        objects: in pixels of the original image.
        size: height and width of the resized image.
        mirror: whether it is mirrored.
    """
    height, width = size
    boxes = rescaled_boxes(objects.boxes, objects.size, size)
    if mirror:
        left, top, right, bottom = boxes.unbind(1)
        boxes = torch.stack([width - right, top, width - left, bottom], dim=1)
    edges = torch.tensor([width, height, width, height], dtype=torch.float32)
    return ImageBoxes(boxes.clamp(min=0).minimum(edges), objects.labels, objects.crowd, size)


def clear_padding(images: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Set everything right of and below each image to zero, in place.

    Args:
        images: (B, C, H, W), each image at the upper left.
        sizes: height and width of each image.

    Returns:
        The same tensor.
    """
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, height:] = 0
        image[:, :, width:] = 0
    return images
