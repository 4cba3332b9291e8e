"""ShuffleNet V1 with three groups and a 1x1 stem."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from stillroom.models.cifar.pieces import conv1x1, conv3x3, shuffle_channels

if TYPE_CHECKING:
    from torch import Tensor

STEM_CHANNELS = 24


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3, grouped 1x1; added to its input, or concatenated at stride 2."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, *, strides: bool) -> None:
        super().__init__()
        made = out_channels - in_channels if strides else out_channels
        hidden = made // 4
        # The stem has too few channels to be grouped (section 3.2 of the paper).
        self.groups = 1 if in_channels == STEM_CHANNELS else groups
        self.conv1 = conv1x1(in_channels, hidden, groups=self.groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv2 = conv3x3(hidden, hidden, stride=2 if strides else 1, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.conv3 = conv1x1(hidden, made, groups=groups)
        self.bn3 = nn.BatchNorm2d(made)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if strides else None
        self.preact = nn.Identity()  # gives the result a name, so that a hook can capture it

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H, W), or half that size at stride 2."""
        hidden = shuffle_channels(F.relu(self.bn1(self.conv1(images))), self.groups)
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        made = self.bn3(self.conv3(hidden))
        if self.shortcut is None:
            return F.relu(self.preact(made + images))
        return F.relu(self.preact(torch.cat([made, self.shortcut(images)], dim=1)))


class ShuffleNetV1(nn.Module):
    """ShuffleNet V1 for 32x32 images. Initial weights are PyTorch's own.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        groups: of the 1x1 convolutions; every width must divide by it.
        widths: channels of the three stages.
        blocks: units in the three stages, each >= 1.

    Source: Zhang et al., ShuffleNet (CVPR 2018), table 1; the stem is a 1x1 convolution and there is no pooling
    before the head, and an activation follows the depthwise convolution, as in the checkpoints of the literature.
    """

    family: ClassVar[str] = "ShuffleNet V1"
    stages: tuple[str, ...] = ("relu", "layer1", "layer2", "layer3", "flatten")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        groups: int = 3,
        widths: tuple[int, int, int] = (240, 480, 960),
        blocks: tuple[int, int, int] = (4, 8, 4),
    ) -> None:
        super().__init__()
        self.width = widths[-1]
        self.conv1 = conv1x1(in_channels, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM_CHANNELS, widths[0], blocks[0], groups)
        self.layer2 = _stage(widths[0], widths[1], blocks[1], groups)
        self.layer3 = _stage(widths[1], widths[2], blocks[2], groups)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(self.width, num_classes)
        sums = (f"layer{i}.{count - 1}.preact" for i, count in enumerate(blocks, start=1))
        self.preact_stages = ("relu", *sums, "flatten")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.linear(self.flatten(self.avgpool(features)))
        return logits


def _stage(in_channels: int, out_channels: int, blocks: int, groups: int) -> nn.Sequential:
    """A stage: the first unit has stride 2 and changes the width, the others keep both."""
    rest = (ShuffleUnit(out_channels, out_channels, groups, strides=False) for _ in range(blocks - 1))
    return nn.Sequential(ShuffleUnit(in_channels, out_channels, groups, strides=True), *rest)
