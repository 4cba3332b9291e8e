"""MobileNetV2 at half width as in the CIFAR literature: stem of stride 2, head of full width."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from stillroom.models.cifar.pieces import conv1x1, conv3x3, init_convolutions, init_small_head

if TYPE_CHECKING:
    from torch import Tensor

# Of each stage: whether it expands, channels at full width, number of blocks, stride.
STAGES = (
    (False, 16, 1, 1),
    (True, 24, 2, 1),
    (True, 32, 3, 2),
    (True, 64, 4, 2),
    (True, 96, 3, 1),
    (True, 160, 3, 2),
    (True, 320, 1, 1),
)
HEAD_CHANNELS = 1280


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 depthwise, 1x1 down without activation; a shortcut if the shapes are equal."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.adds = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            conv1x1(in_channels, hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv3x3(hidden, hidden, stride=stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            conv1x1(hidden, out_channels),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        residual: Tensor = self.conv(images)
        return images + residual if self.adds else residual


class MobileNetV2(nn.Module):
    """MobileNetV2 for 32x32 images.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        multiplier: scales every width except the head's; (0, ...).
        expansion: ratio of hidden to input channels of an inverted residual, >= 1.

    Source: Sandler et al., MobileNetV2 (CVPR 2018), table 2, with ReLU for ReLU6 and the strides of the
    checkpoints of the distillation literature.
    """

    family: ClassVar[str] = "MobileNetV2"
    stages: tuple[str, ...] = ("conv1", "blocks.1", "blocks.2", "blocks.4", "blocks.6", "flatten")
    # Stages end in a linear bottleneck, so there is no activation to leave out.
    preact_stages: tuple[str, ...] = stages

    def __init__(self, num_classes: int, in_channels: int = 3, *, multiplier: float = 0.5, expansion: int = 6) -> None:
        super().__init__()
        channels = int(32 * multiplier)
        self.width = HEAD_CHANNELS
        self.conv1 = nn.Sequential(conv3x3(in_channels, channels, stride=2), nn.BatchNorm2d(channels), nn.ReLU())
        self.blocks = nn.ModuleList()
        for expands, full_width, count, stride in STAGES:
            width = int(full_width * multiplier)
            factor = expansion if expands else 1
            rest = (InvertedResidual(width, width, 1, factor) for _ in range(count - 1))
            self.blocks.append(nn.Sequential(InvertedResidual(channels, width, stride, factor), *rest))
            channels = width
        self.conv2 = nn.Sequential(conv1x1(channels, self.width), nn.BatchNorm2d(self.width), nn.ReLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        head = nn.Linear(self.width, num_classes)
        self.classifier = nn.Sequential(head)
        init_convolutions(self)
        init_small_head(head)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 1 -> logits (B, num_classes)."""
        features = self.conv1(images)
        for block in self.blocks:
            features = block(features)
        logits: Tensor = self.classifier(self.flatten(self.avgpool(self.conv2(features))))
        return logits
