"""Mean and standard deviation of each channel: published values for named sets, measured for others."""

from __future__ import annotations

import torch
from torch import Tensor

from stillroom.data.image_set import ImageSet
from stillroom.data.source import Source

Statistics = tuple[tuple[float, ...], tuple[float, ...]]

SAMPLE = 2000  # images of files that are decoded for it

# The values used in the published training recipes.
PUBLISHED: dict[str, Statistics] = {
    "cifar10": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "cifar100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "tiny-imagenet": ((0.4802, 0.4481, 0.3975), (0.2302, 0.2265, 0.2262)),
}


def measured_statistics(source: Source) -> Statistics:
    """Measure mean and standard deviation of each channel, of images in files on an evenly spaced sample.

    Args:
        source: the training images, at least one.
    """
    if isinstance(source, ImageSet):
        return channel_statistics(source.images)
    places = torch.linspace(0, len(source) - 1, min(SAMPLE, len(source)), dtype=torch.float64).round().long()
    return channel_statistics(source.pixels(places))


def channel_statistics(images: Tensor) -> Statistics:
    """Measure mean and standard deviation of each channel exactly, from a histogram of the values.

    The result is not cached: a cache key that depends on all pixels would take as long to compute.

    Args:
        images: uint8 tensor (N, C, H, W), N >= 1.

    Returns:
        Mean and population standard deviation on [0, 1]; a constant channel gets deviation 1, so that
        it can be divided by.
    """
    channels = images.shape[1]
    often = torch.zeros(channels, 256, dtype=torch.int64)
    for part in torch.split(images, 1024):
        for channel in range(channels):
            often[channel] += torch.bincount(part[:, channel].flatten(), minlength=256)
    count = images.numel() // channels
    means, deviations = [], []
    for times in often.tolist():
        one = sum(n * value for value, n in enumerate(times))
        two = sum(n * value**2 for value, n in enumerate(times))
        variance = (two * count - one * one) / count**2  # exact integers until the division
        means.append(one / count / 255)
        deviations.append(variance**0.5 / 255 or 1.0)
    return tuple(means), tuple(deviations)
