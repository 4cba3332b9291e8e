"""VGG with batch norm and one linear layer (vgg8 … vgg19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from stillroom.models.cifar.pieces import init_convolutions, init_small_head

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = (64, 128, 256, 512, 512)


class VGG(nn.Module):
    """Five blocks of 3x3 convolutions of 64-128-256-512-512 channels, average pooling, one linear layer.

    Max-pooling follows the first three blocks, and the fourth if images have 64 rows or more, as in the published
    Tiny-ImageNet teachers.

    Args:
        num_classes: length of the logits.
        in_channels: channels of the images.
        convolutions: number of convolutions in each of the five blocks, each >= 1.

    Source: Simonyan and Zisserman, Very Deep Convolutional Networks (ICLR 2015), table 1.
    """

    family: ClassVar[str] = "VGG"
    stages: tuple[str, ...] = ("relu0", "relu1", "relu2", "relu3", "relu4", "flatten")
    preact_stages: tuple[str, ...] = ("relu0", "block1", "block2", "block3", "block4", "flatten")

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        *,
        convolutions: tuple[int, int, int, int, int] = (1, 1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.width = WIDTHS[-1]
        self.block0 = _block(in_channels, WIDTHS[0], convolutions[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], convolutions[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], convolutions[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], convolutions[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], convolutions[4])
        # The last activation of a block is outside it: hooks capture features after it, and the block's before it.
        self.relu0, self.relu1, self.relu2 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.relu3, self.relu4 = nn.ReLU(), nn.ReLU()
        self.maxpool = nn.MaxPool2d(2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Linear(self.width, num_classes)
        init_convolutions(self)
        init_small_head(self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, in_channels, H, W), H and W >= 8 -> logits (B, num_classes)."""
        features = self.maxpool(self.relu0(self.block0(images)))
        features = self.maxpool(self.relu1(self.block1(features)))
        features = self.maxpool(self.relu2(self.block2(features)))
        features = self.relu3(self.block3(features))
        if images.shape[2] >= 64:
            features = self.maxpool(features)
        features = self.relu4(self.block4(features))
        logits: Tensor = self.classifier(self.flatten(self.avgpool(features)))
        return logits


def _block(in_channels: int, out_channels: int, convolutions: int) -> nn.Sequential:
    """Convolutions with batch norm, with activations between them but none at the end."""
    layers: list[nn.Module] = []
    for i in range(convolutions):
        if i:
            layers.append(nn.ReLU())
        source = out_channels if i else in_channels
        layers += [nn.Conv2d(source, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels)]
    return nn.Sequential(*layers)
