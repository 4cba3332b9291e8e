"""Read STL-10 from its published binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from stillroom.data.cifar import provide
from stillroom.data.image_set import ImageSet
from stillroom.errors import InputError

SIDE = 96
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def load_stl10(root: Path, download: bool) -> tuple[ImageSet, ImageSet]:
    """Load the labelled images of STL-10.

    Args:
        root: the folder that contains ``stl10_binary``, or where to download it to.
        download: whether to download files that are missing or damaged; with the unlabelled images, 2.6 GB.

    Returns:
        The training and the test set: 5,000 and 8,000 images of 96x96 pixels.

    Raises:
        InputError: files are missing, or are not the published ones.
    """
    from torchvision.datasets import STL10

    files = [(name, md5) for name, md5 in (*STL10.train_list, *STL10.test_list) if not name.startswith("unlabeled")]
    provide(STL10, root, files, download)
    folder = root / STL10.base_folder
    return _read(folder, "train"), _read(folder, "test")


def _read(folder: Path, split: str) -> ImageSet:
    """One split: images are stored channel by channel, each column by column; labels count from 1."""
    images, labels = (np.frombuffer((folder / f"{split}_{part}.bin").read_bytes(), np.uint8) for part in "Xy")
    if images.size != len(labels) * 3 * SIDE * SIDE or not np.isin(labels, range(1, len(CLASSES) + 1)).all():
        raise InputError(f"{folder}: {split}_X.bin and {split}_y.bin do not fit each other; download the set again")
    pixels = images.reshape(-1, 3, SIDE, SIDE).transpose(0, 1, 3, 2)
    places = torch.arange(len(labels))
    return ImageSet(torch.from_numpy(pixels.copy()), torch.from_numpy(labels.astype(np.int64) - 1), places, CLASSES)
