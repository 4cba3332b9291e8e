"""CIFAR ResNets: three stages of basic blocks, depth 6n + 2 (resnet8 … resnet110, resnet8x4, resnet32x4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn
from torch.nn import functional as F

from stillroom.models.cifar.pieces import conv1x1, conv3x3, init_convolutions

if TYPE_CHECKING:
    from torch import Tensor


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: relu(x + F(x))."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Identity()
            if stride == 1 and in_channels == out_channels
            else nn.Sequential(conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels))
        )
        self.preact = nn.Identity()  # gives the sum a name, so that a hook can capture it

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        return F.relu(self.preact(self.bn2(self.conv2(hidden)) + self.downsample(images)))


class CifarResNet(nn.Module):
    """A CIFAR ResNet of depth 6n + 2.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        depth: 6n + 2 for n blocks per stage.
        widths: channels of the stem and of the three stages.
        stem_stride: 1 as published; 2 reduces the cost behind the stem to a quarter.

    Raises:
        ValueError: ``depth`` is not 6n + 2 with n >= 1.

    Source: He et al., Deep Residual Learning (CVPR 2016), section 4.2; shortcuts are 1x1 convolutions (option
    B).
    """

    family: ClassVar[str] = "ResNet"
    stages: tuple[str, ...] = ("relu", "layer1", "layer2", "layer3", "flatten")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        depth: int = 20,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6n + 2 with n >= 1, got {depth}")
        blocks = (depth - 2) // 6
        stem, first, second, third = widths
        self.conv1 = conv3x3(in_channels, stem, stride=stem_stride)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = _stage(stem, first, blocks, stride=1)
        self.layer2 = _stage(first, second, blocks, stride=2)
        self.layer3 = _stage(second, third, blocks, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(third, num_classes)
        self.width = third
        last = blocks - 1
        self.preact_stages = ("relu", *(f"layer{i}.{last}.preact" for i in (1, 2, 3)), "flatten")
        init_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer3(self.layer2(self.layer1(features)))
        logits: Tensor = self.fc(self.flatten(self.avgpool(features)))
        return logits


def _stage(in_channels: int, out_channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    """A stage: the first block changes width and size, the others keep them."""
    rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
    return nn.Sequential(BasicBlock(in_channels, out_channels, stride), *rest)
