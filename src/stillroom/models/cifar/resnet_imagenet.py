"""The four-stage ResNets of ImageNet with a CIFAR stem: 3x3, stride 1, no max-pool (ResNet18, ResNet50)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn
from torch.nn import functional as F

from stillroom.models.cifar.pieces import conv1x1, conv3x3, init_convolutions

if TYPE_CHECKING:
    from torch import Tensor


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """The identity if the shapes are equal, else a 1x1 projection."""
    if stride == 1 and in_channels == out_channels:
        return nn.Sequential()
    return nn.Sequential(conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut: relu(x + F(x))."""

    expansion: ClassVar[int] = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, width, stride=stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_channels, width, stride)
        self.preact = nn.Identity()  # gives the sum a name, so that a hook can capture it

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, width, H / stride, W / stride)."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        return F.relu(self.preact(self.bn2(self.conv2(hidden)) + self.shortcut(images)))


class Bottleneck(nn.Module):
    """1x1 down, 3x3 with the stride, 1x1 up to four times the width, around a shortcut."""

    expansion: ClassVar[int] = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride=stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride)
        self.preact = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, 4 * width, H / stride, W / stride)."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        hidden = F.relu(self.bn2(self.conv2(hidden)))
        return F.relu(self.preact(self.bn3(self.conv3(hidden)) + self.shortcut(images)))


class ImageNetResNet(nn.Module):
    """A four-stage ResNet with a CIFAR stem.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        block: BasicBlock or Bottleneck.
        blocks: number of blocks in each of the four stages, each >= 1.

    Source: He et al., Deep Residual Learning (CVPR 2016), table 1.
    """

    family: ClassVar[str] = "ResNet (ImageNet)"
    stages: tuple[str, ...] = ("relu", "layer1", "layer2", "layer3", "layer4", "flatten")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        block: type[BasicBlock] | type[Bottleneck] = BasicBlock,
        blocks: tuple[int, int, int, int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = _stage(block, 64, 64, blocks[0], stride=1)
        self.layer2 = _stage(block, 64 * block.expansion, 128, blocks[1], stride=2)
        self.layer3 = _stage(block, 128 * block.expansion, 256, blocks[2], stride=2)
        self.layer4 = _stage(block, 256 * block.expansion, 512, blocks[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.width = 512 * block.expansion
        self.linear = nn.Linear(self.width, num_classes)
        sums = (f"layer{i}.{count - 1}.preact" for i, count in enumerate(blocks, start=1))
        self.preact_stages = ("relu", *sums, "flatten")
        init_convolutions(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.relu(self.bn1(self.conv1(images)))
        features = self.layer4(self.layer3(self.layer2(self.layer1(features))))
        logits: Tensor = self.linear(self.flatten(self.avgpool(features)))
        return logits


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, width: int, count: int, *, stride: int
) -> nn.Sequential:
    """A stage: the first block changes width and size, the others keep them."""
    rest = (block(width * block.expansion, width, 1) for _ in range(count - 1))
    return nn.Sequential(block(in_channels, width, stride), *rest)
