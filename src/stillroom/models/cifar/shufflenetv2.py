"""ShuffleNet V2 at width 1 with a 1x1 stem."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from stillroom.models.cifar.pieces import conv1x1, conv3x3, shuffle_channels

if TYPE_CHECKING:
    from torch import Tensor

STEM_CHANNELS = 24


class SplitUnit(nn.Module):
    """Half of the channels are kept, the others go through 1x1, depthwise 3x3, 1x1; then a channel shuffle."""

    def __init__(self, channels: int, *, last: bool) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv1x1(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = conv3x3(half, half, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        # Gives both halves before activation and shuffle a name for a hook, only at the end of a stage.
        self.preact = nn.Identity() if last else None

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), C even."""
        kept, given = images.chunk(2, dim=1)
        hidden = F.relu(self.bn1(self.conv1(given)))
        made = self.bn3(self.conv3(self.bn2(self.conv2(hidden))))
        if self.preact is not None:
            kept, made = self.preact(torch.cat([kept, made], dim=1)).chunk(2, dim=1)
        return shuffle_channels(torch.cat([kept, F.relu(made)], dim=1), 2)


class DownUnit(nn.Module):
    """Two branches of stride 2, concatenated to the new width; then a channel shuffle."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = conv3x3(in_channels, in_channels, stride=2, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = conv1x1(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(in_channels, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = conv3x3(half, half, stride=2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv1x1(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / 2, W / 2)."""
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(images)))))
        right = F.relu(self.bn3(self.conv3(images)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle_channels(torch.cat([left, right], dim=1), 2)


class ShuffleNetV2(nn.Module):
    """ShuffleNet V2 for 32x32 images. Initial weights are PyTorch's own.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        widths: channels of the three stages, even, and of the head.
        blocks: number of split units after the first unit of the three stages, each >= 1.

    Source: Ma et al., ShuffleNet V2 (ECCV 2018), table 5; the stem is a 1x1 convolution and there is no pooling
    before the head, as in the checkpoints of the literature.
    """

    family: ClassVar[str] = "ShuffleNet V2"
    stages: tuple[str, ...] = ("relu", "layer1", "layer2", "layer3", "flatten")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        widths: tuple[int, int, int, int] = (116, 232, 464, 1024),
        blocks: tuple[int, int, int] = (3, 7, 3),
    ) -> None:
        super().__init__()
        self.width = widths[-1]
        self.conv1 = conv1x1(in_channels, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.relu = nn.ReLU()
        self.layer1 = _stage(STEM_CHANNELS, widths[0], blocks[0])
        self.layer2 = _stage(widths[0], widths[1], blocks[1])
        self.layer3 = _stage(widths[1], widths[2], blocks[2])
        self.conv2 = conv1x1(widths[2], self.width)
        self.bn2 = nn.BatchNorm2d(self.width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(self.width, num_classes)
        # The down unit is first, so the index of the last split unit is the number of split units.
        joins = (f"layer{i}.{count}.preact" for i, count in enumerate(blocks, start=1))
        self.preact_stages = ("relu", *joins, "flatten")

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        features = F.relu(self.bn2(self.conv2(features)))
        logits: Tensor = self.linear(self.flatten(self.avgpool(features)))
        return logits


def _stage(in_channels: int, out_channels: int, splits: int) -> nn.Sequential:
    """A stage: a down unit, then split units."""
    rest = (SplitUnit(out_channels, last=i == splits - 1) for i in range(splits))
    return nn.Sequential(DownUnit(in_channels, out_channels), *rest)
