"""Small images with boxes, for tests."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from stillroom.boxes import ImageBoxes
from stillroom.data.boxed_source import BoxedSource, default_max_size
from stillroom.data.content_hash import hash_bytes
from tests.data.image_files import png


def image_boxes(boxes, labels, size, crowd=None):
    """Objects of one image from lists: ``boxes`` as left, top, right, bottom; none of them a crowd by default."""
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    crowd = [False] * len(boxes) if crowd is None else crowd
    return ImageBoxes(boxes, torch.tensor(labels, dtype=torch.long), torch.tensor(crowd, dtype=torch.bool), size)


def boxed_source(images, objects, classes=("ant", "bee"), image_size=32, max_size=None, ids=None):
    """A source of images in memory.

    Args:
        images: uint8 arrays (3, H, W), or the bytes of image files.
        objects: an ImageBoxes for each.
    """
    encoded = [
        image if isinstance(image, bytes) else png(Image.fromarray(np.asarray(image).transpose(1, 2, 0).copy()))
        for image in images
    ]
    count = torch.arange(len(encoded))
    return BoxedSource(
        store=tuple(encoded),
        names=tuple(f"image {number}" for number in range(len(encoded))),
        places=count,
        ids=count if ids is None else ids,
        labels=torch.zeros_like(count),
        classes=tuple(classes),
        digests=torch.tensor([hash_bytes(data) for data in encoded], dtype=torch.long),
        sizes=torch.tensor([found.size for found in objects], dtype=torch.long).reshape(-1, 2),
        objects=tuple(objects),
        image_size=image_size,
        max_size=default_max_size(image_size) if max_size is None else max_size,
    )


def random_boxed_source(count=6, seed=0, **options):
    """Random images of several sizes with 0 to 3 objects each, of two classes."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for number in range(count):
        height, width = (int(side) for side in rng.integers(20, 60, 2))
        images.append(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
        corners = rng.integers(0, (width - 8, height - 8), (number % 4, 2))
        boxes = np.concatenate((corners, corners + rng.integers(4, 9, corners.shape)), 1)
        objects.append(image_boxes(boxes.tolist(), rng.integers(0, 2, len(boxes)).tolist(), (height, width)))
    return boxed_source(images, objects, **options)
