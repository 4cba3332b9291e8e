"""The CIFAR model zoo: names of the literature and their models."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from stillroom.models.cifar.mobilenetv2 import MobileNetV2
from stillroom.models.cifar.resnet import CifarResNet
from stillroom.models.cifar.resnet_imagenet import Bottleneck, ImageNetResNet
from stillroom.models.cifar.shufflenetv1 import ShuffleNetV1
from stillroom.models.cifar.shufflenetv2 import ShuffleNetV2
from stillroom.models.cifar.vgg import VGG
from stillroom.models.cifar.wrn import WideResNet

_FOURFOLD = (32, 64, 128, 256)

# Each entry is called as factory(num_classes, in_channels=3).
ZOO: dict[str, Callable[..., nn.Module]] = {
    "resnet8": partial(CifarResNet, depth=8),
    "resnet14": partial(CifarResNet, depth=14),
    "resnet20": partial(CifarResNet, depth=20),
    "resnet32": partial(CifarResNet, depth=32),
    "resnet44": partial(CifarResNet, depth=44),
    "resnet56": partial(CifarResNet, depth=56),
    "resnet110": partial(CifarResNet, depth=110),
    "resnet8x4": partial(CifarResNet, depth=8, widths=_FOURFOLD),
    "resnet32x4": partial(CifarResNet, depth=32, widths=_FOURFOLD),
    "wrn_16_1": partial(WideResNet, depth=16, widen=1),
    "wrn_16_2": partial(WideResNet, depth=16, widen=2),
    "wrn_40_1": partial(WideResNet, depth=40, widen=1),
    "wrn_40_2": partial(WideResNet, depth=40, widen=2),
    "vgg8": partial(VGG, convolutions=(1, 1, 1, 1, 1)),
    "vgg11": partial(VGG, convolutions=(1, 1, 2, 2, 2)),
    "vgg13": partial(VGG, convolutions=(2, 2, 2, 2, 2)),
    "vgg16": partial(VGG, convolutions=(2, 2, 3, 3, 3)),
    "vgg19": partial(VGG, convolutions=(2, 2, 4, 4, 4)),
    "MobileNetV2": MobileNetV2,
    "ShuffleV1": ShuffleNetV1,
    "ShuffleV2": ShuffleNetV2,
    "ResNet18": ImageNetResNet,
    "ResNet50": partial(ImageNetResNet, block=Bottleneck, blocks=(3, 4, 6, 3)),
}


class ModelRow(NamedTuple):
    """One row of ``stillroom list models``: name, parameters with 100 classes, architecture family."""

    name: str
    parameters: int
    family: str


def describe_models() -> list[ModelRow]:
    """Return every model of the zoo with its parameter count for 100 classes.

    The models are built on the meta device, so this is fast and does not change random state.
    """
    rows = []
    for name, factory in ZOO.items():
        with torch.device("meta"):
            model = factory(100)
        rows.append(ModelRow(name, sum(p.numel() for p in model.parameters()), str(model.family)))
    return rows
