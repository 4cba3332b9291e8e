"""Published facts of pretrained networks: their input format, central crop and classes, as their library has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from stillroom.input_format import InputFormat, Interpolation
from stillroom.models.classifier_head import head_classes
from stillroom.models.efficientnet_lite0 import EFFICIENTNET_LITE0

_IMAGENET_CLASSES = 1000


def published_input(name: str, model: nn.Module) -> InputFormat | None:
    """The input format with which the published weights of a model were trained.

    It holds for any weights of that model which keep the format: downloaded, or from a file.

    Args:
        name: as :func:`stillroom.models.build_model` takes it.
        model: what it builds, on any device.

    Returns:
        The format, for as many channels as the model takes: of one channel the mean over red, green and blue, since
        the weights are adapted by their sum. None for a model without published weights, and for other channels.
    """
    config = _timm_config(name, model)
    if config is not None:
        facts = _timm_data().resolve_model_data_config(model)
        return _format(model, facts["mean"], facts["std"], facts["input_size"][1:], facts["interpolation"])
    weights = _torchvision_weights(name)
    if weights is None:
        return None
    transforms = weights.transforms()
    side = transforms.crop_size[0]
    return _format(model, transforms.mean, transforms.std, (side, side), transforms.interpolation.value)


def published_crop_fraction(name: str, model: nn.Module) -> float | None:
    """The fraction of the shorter side that the published evaluation of a model shows, as 0.875 for 256 to 224 pixels.

    Args:
        name: as :func:`stillroom.models.build_model` takes it.
        model: what it builds, on any device.

    Returns:
        In (0, 1]; None for a model without published weights.
    """
    if _timm_config(name, model) is not None:
        return float(_timm_data().resolve_model_data_config(model)["crop_pct"])
    weights = _torchvision_weights(name)
    if weights is None:
        return None
    transforms = weights.transforms()
    return float(min(1.0, transforms.crop_size[0] / transforms.resize_size[0]))


def published_classes(name: str, model: nn.Module) -> tuple[str, ...] | None:
    """The classes of the published head of a model.

    Args:
        name: as :func:`stillroom.models.build_model` takes it.
        model: what it builds, on any device.

    Returns:
        Their names in the order of the logits; for the ImageNet sets that timm knows, WordNet ids such as
        "n01440764", whose words are in ``timm.data.ImageNetInfo``. None where they are not known, and where the
        model's head has another number of classes.
    """
    classes = _classes(name, model)
    return classes if classes is not None and len(classes) == head_classes(model) else None


def _classes(name: str, model: nn.Module) -> tuple[str, ...] | None:
    imagenet = _timm_data()
    config = _timm_config(name, model)
    if config is not None:
        if config.get("label_names"):
            return tuple(str(label) for label in config["label_names"])
        subset = imagenet.infer_imagenet_subset({"num_classes": config.get("num_classes")})
        return None if subset is None else tuple(imagenet.ImageNetInfo(subset).label_names())
    weights = _torchvision_weights(name)
    if weights is None:
        return None
    categories = tuple(weights.meta["categories"])
    # torchvision lists ImageNet's words in the order of timm's WordNet ids, which name a class without doubt.
    return tuple(imagenet.ImageNetInfo().label_names()) if len(categories) == _IMAGENET_CLASSES else categories


def _timm_config(name: str, model: nn.Module) -> Mapping[str, Any] | None:
    """Timm's description of the published weights; None for models that are not named as timm's.

    A module from Python may have one as well, but says nothing about the format in which its user trained it.
    """
    if name != EFFICIENTNET_LITE0 and not name.startswith("timm:"):
        return None
    config = getattr(model, "pretrained_cfg", None)
    return config if isinstance(config, Mapping) else None


def _torchvision_weights(name: str) -> Any:
    """Torchvision's default weights of a model; None for other models."""
    source, _, model = name.partition(":")
    if source != "torchvision":
        return None
    import torchvision

    models: Any = torchvision.models  # its exports are not declared
    return models.get_model_weights(model)["DEFAULT"]


def _timm_data() -> Any:
    """The module ``timm.data``, typed as Any because it is not typed."""
    import timm.data

    return timm.data


def _format(model: nn.Module, mean: Any, std: Any, size: tuple[int, int], interpolation: str) -> InputFormat | None:
    """The format for the channels that a model takes."""
    channels = next((int(weight.shape[1]) for weight in model.parameters() if weight.ndim == 4), len(mean))
    if channels == 1 and len(mean) > 1:
        mean, std = [sum(mean) / len(mean)], [sum(std) / len(std)]
    if channels != len(mean):
        return None
    kinds: dict[str, Interpolation] = {"nearest": "nearest", "bilinear": "bilinear"}
    height, width = size
    return InputFormat(tuple(mean), tuple(std), (height, width), kinds.get(interpolation, "bicubic"))
