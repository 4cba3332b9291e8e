"""The classifiers of the CIFAR distillation literature, one file per architecture family.

Parameter names, their order and the arithmetic are those of the checkpoints of RepDistiller and mdistiller, so
published teachers load strictly. Two things differ on purpose: heads pool adaptively, so any input size works, and no
activation works in place, so a captured feature is not overwritten.

Every class has four attributes besides ``forward``:

* ``family``: the name of the architecture.
* ``stages``: dotted names of the submodules whose outputs are the features of the literature: the stem, each
  stage, and the pooled vector (B, C) last.
* ``preact_stages``: the same places before the last activation (what OFD, AB and ReviewKD compare).
* ``width``: the length of the pooled vector.
"""

from __future__ import annotations

from stillroom.models.cifar.mobilenetv2 import MobileNetV2
from stillroom.models.cifar.resnet import CifarResNet
from stillroom.models.cifar.resnet_imagenet import ImageNetResNet
from stillroom.models.cifar.shufflenetv1 import ShuffleNetV1
from stillroom.models.cifar.shufflenetv2 import ShuffleNetV2
from stillroom.models.cifar.vgg import VGG
from stillroom.models.cifar.wrn import WideResNet

__all__ = [
    "VGG",
    "CifarResNet",
    "ImageNetResNet",
    "MobileNetV2",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "WideResNet",
]
