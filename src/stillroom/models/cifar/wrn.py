"""Wide ResNets: three stages of pre-activation blocks, depth 6n + 4 (wrn_16_1 … wrn_40_2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn
from torch.nn import functional as F

from stillroom.models.cifar.pieces import conv1x1, conv3x3, init_convolutions

if TYPE_CHECKING:
    from torch import Tensor


class PreactBlock(nn.Module):
    """Batch norm and activation before each convolution; no activation on the shortcut.

    If the width changes, the shortcut projects the activated input; otherwise it is the raw input, as in the published
    checkpoints.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, out_channels, stride=stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.convShortcut = None if in_channels == out_channels else conv1x1(in_channels, out_channels, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        activated = F.relu(self.bn1(images))
        residual: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return residual + (images if self.convShortcut is None else self.convShortcut(activated))


class Stage(nn.Module):
    """A stage of blocks, named ``layer`` as in the published checkpoints."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, *, stride: int) -> None:
        super().__init__()
        rest = (PreactBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
        self.layer = nn.Sequential(PreactBlock(in_channels, out_channels, stride), *rest)

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        features: Tensor = self.layer(images)
        return features


class WideResNet(nn.Module):
    """A wide ResNet without dropout.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        depth: 6n + 4 for n blocks per stage.
        widen: the stages have 16, 32 and 64 times this many channels.

    Raises:
        ValueError: ``depth`` is not 6n + 4 with n >= 1.

    Source: Zagoruyko and Komodakis, Wide Residual Networks (BMVC 2016), table 1.
    """

    family: ClassVar[str] = "Wide ResNet"
    stages: tuple[str, ...] = ("conv1", "block1", "block2", "block3", "flatten")
    preact_stages: tuple[str, ...] = ("conv1", "block2.layer.0.bn1", "block3.layer.0.bn1", "bn1", "flatten")

    def __init__(self, num_classes: int, in_channels: int = 3, *, depth: int = 16, widen: int = 1) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise ValueError(f"depth must be 6n + 4 with n >= 1, got {depth}")
        blocks = (depth - 4) // 6
        self.width = 64 * widen
        self.conv1 = conv3x3(in_channels, 16)
        self.block1 = Stage(16, 16 * widen, blocks, stride=1)
        self.block2 = Stage(16 * widen, 32 * widen, blocks, stride=2)
        self.block3 = Stage(32 * widen, self.width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(self.width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(self.width, num_classes)
        init_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.block3(self.block2(self.block1(self.conv1(images))))
        logits: Tensor = self.fc(self.flatten(self.avgpool(F.relu(self.bn1(features)))))
        return logits
