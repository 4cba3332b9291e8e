"""A data set with boxes, for tests: two kinds of coloured rectangles on noise."""

from __future__ import annotations

import numpy as np

from stillroom.data.augment import Augment
from stillroom.data.dataset import DataSet
from tests.data.boxed_images import boxed_source, image_boxes

COLOURS = ((255, 0, 0), (0, 0, 255))


def rectangles(count, seed, side=64):
    """Images of one or two rectangles; the first of them has none."""
    rng = np.random.default_rng(seed)
    images, objects = [], []
    for number in range(count):
        image = rng.integers(100, 156, (3, side, side), dtype=np.uint8)
        boxes, labels = [], []
        for _ in range(min(number, 1 + number % 2)):
            left, top = (int(edge) for edge in rng.integers(0, side - 24, 2))
            width, height, label = int(rng.integers(12, 24)), int(rng.integers(12, 24)), int(rng.integers(0, 2))
            image[:, top : top + height, left : left + width] = np.array(COLOURS[label], np.uint8)[:, None, None]
            boxes.append([left, top, left + width, top + height])
            labels.append(label)
        images.append(image)
        objects.append(image_boxes(boxes, labels, (side, side)))
    return boxed_source(images, objects, classes=("red", "blue"), image_size=side)


def boxed_data(train=12, val=6):
    """Training and validation images."""
    splits = rectangles(train, seed=1), rectangles(val, seed=2)
    return DataSet("rectangles", *splits, mean=(0.5,) * 3, std=(0.25,) * 3, augment=Augment(pad=0, flip=True))
