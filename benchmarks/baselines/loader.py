"""Images one by one through PIL in a DataLoader, as torchvision's CIFAR sets are used in public training code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms


class ArrayImages(Dataset[tuple[Tensor, int]]):
    """Images in memory as one uint8 array (N, H, W, 3); each is made a PIL image when it is asked for."""

    def __init__(self, images: np.ndarray, labels: Sequence[int], transform: transforms.Compose) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[place])), self.labels[place]


def make_loader(
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    workers: int,
    pad: int = 4,
    flip: bool = True,
    shuffle: bool = True,
) -> DataLoader[tuple[Tensor, Tensor]]:
    """The loader for uint8 images (N, 3, H, W). Workers stay between epochs, which spares it their start."""
    changes: list[object] = [transforms.RandomCrop(images.shape[-1], padding=pad)] if pad else []
    changes += [transforms.RandomHorizontalFlip()] if flip else []
    transform = transforms.Compose([*changes, transforms.ToTensor(), transforms.Normalize(mean, std)])
    array = np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
    return DataLoader(
        ArrayImages(array, labels.tolist(), transform),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
