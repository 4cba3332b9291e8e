"""Mean and standard deviation of each channel: published values for named sets, measured for others."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.fine_grained_sets import FINE_GRAINED
from stillroom.data.image_set import ImageSet
from stillroom.data.source import Source

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

PIXELS, SAMPLE = 10**9, 2000  # of images in files: all are decoded up to so many pixels, else so many images
_CHUNK = 1024
_VERSION = 1  # raised when files are decoded to other pixels

# The values used in the published training recipes; fine-grained sets have those of ImageNet.
_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
PUBLISHED: dict[str, Statistics] = {
    "cifar10": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "imagenet": _IMAGENET,
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
    **dict.fromkeys(FINE_GRAINED, _IMAGENET),
}


def measured_statistics(source: Source) -> Statistics:
    """Measure mean and standard deviation of each channel.

    Images of more than 10^9 pixels in files are measured on an evenly spaced sample, because all have to be decoded.
    The histogram of images in files is kept in the cache folder.

    Args:
        source: the training images, at least one.
    """
    if isinstance(source, ImageSet):
        return channel_statistics(source.images)
    kept = cache_folder() / "histograms" / f"{source.fingerprint}-{_VERSION}.npy"
    with suppress(OSError, ValueError, EOFError):
        often = torch.from_numpy(np.load(kept, allow_pickle=False))
        if often.dtype == torch.int64 and often.shape == (source.shape[0], 256) and often.min() >= 0 < often.sum():
            return _of_histogram(often)
    often = _measured_histogram(source)
    write_cache(kept, lambda file: np.save(file, often.numpy(), allow_pickle=False))
    return _of_histogram(often)


def _measured_histogram(source: Source) -> Tensor:
    count = len(source)
    if count * source.shape[1] * source.shape[2] > PIXELS:
        count = min(SAMPLE, count)
    places = torch.linspace(0, len(source) - 1, count, dtype=torch.float64).round().long()
    return torch.stack([_histogram(source.pixels(part)) for part in torch.split(places, _CHUNK)]).sum(0)


def channel_statistics(images: Tensor) -> Statistics:
    """Measure mean and standard deviation of each channel exactly, from a histogram of the values.

    The result is not cached: a cache key that depends on all pixels would take as long to compute.

    Args:
        images: uint8 tensor (N, C, H, W), N >= 1.

    Returns:
        Mean and population standard deviation on [0, 1]; a constant channel gets deviation 1, so that
        it can be divided by.
    """
    return _of_histogram(torch.stack([_histogram(part) for part in torch.split(images, _CHUNK)]).sum(0))


def _histogram(images: Tensor) -> Tensor:
    """How often each channel has each value, int64 (C, 256)."""
    return torch.stack([torch.bincount(images[:, c].flatten(), minlength=256) for c in range(images.shape[1])])


def _of_histogram(often: Tensor) -> Statistics:
    means, deviations = [], []
    for times in often.tolist():
        count = sum(times)
        one = sum(n * value for value, n in enumerate(times))
        two = sum(n * value**2 for value, n in enumerate(times))
        variance = (two * count - one * one) / count**2  # exact integers until the division
        means.append(one / count / 255)
        deviations.append(variance**0.5 / 255 or 1.0)
    return tuple(means), tuple(deviations)
