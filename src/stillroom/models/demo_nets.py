"""Small ResNets that train in seconds on a CPU: teachers and student of ``stillroom demo``.

They are CIFAR ResNets with a stem of stride 2, which reduces the cost to a quarter. Use them as
``stillroom.models.demo_nets:large``, ``:medium`` and ``:small``.
"""

from __future__ import annotations

from stillroom.models.cifar.resnet import CifarResNet


def large(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Depth 8, widths 32-64-128: 0.3 million parameters and 12 million multiplications a 32x32 image."""
    return CifarResNet(num_classes, in_channels, depth=8, widths=(32, 32, 64, 128), stem_stride=2)


def medium(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Depth 8, widths 16-32-64: a quarter of the large one's multiplications."""
    return CifarResNet(num_classes, in_channels, depth=8, widths=(16, 16, 32, 64), stem_stride=2)


def small(num_classes: int, in_channels: int = 3) -> CifarResNet:
    """Depth 8, widths 8-16-32: a sixteenth of the large one's multiplications."""
    return CifarResNet(num_classes, in_channels, depth=8, widths=(8, 8, 16, 32), stem_stride=2)
