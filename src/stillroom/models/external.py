"""Build models of timm and torchvision for the user's classes, channels and image size."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from stillroom.errors import InputError, first_line
from stillroom.files import shown
from stillroom.models.classifier_head import zero_head
from stillroom.models.output import ImageSize
from stillroom.trust import ADVICE, Origin, UntrustedError

_REMOTE = ("hf_hub:", "hf-hub:", "local-dir:")


def is_timm(name: str) -> bool:
    """Whether timm can build a model of this name, which may be a pretrained tag or a hub address."""
    import timm

    return name.startswith(_REMOTE) or bool(timm.is_model(name))


@cache
def timm_names() -> tuple[str, ...]:
    """Return all architectures of timm."""
    import timm

    return tuple(timm.list_models())


@cache
def torchvision_names() -> tuple[str, ...]:
    """Return all image classifiers of torchvision; detectors and others are in its submodules."""
    models = _torchvision_models()
    return tuple(models.list_models(module=models))


def from_timm(
    name: str, num_classes: int | None, in_channels: int, image_size: ImageSize | None, pretrained: bool, origin: Origin
) -> nn.Module:
    """Build a timm model.

    Args:
        name: as ``timm.create_model`` takes it.
        num_classes: length of the logits; a head of zeros replaces that of pretrained weights with another count. None
            builds as many as the published weights have.
        in_channels: channels of the images; timm adapts the stem of pretrained weights.
        image_size: given as ``img_size`` to the architectures that are built for one size (ViT, Swin …).
        pretrained: download the published weights.
        origin: where the name comes from.

    Returns:
        The model.

    Raises:
        UntrustedError: a file that is not trusted names a hub, a folder or published weights.
        InputError: timm refuses these arguments, or the weights cannot be downloaded.
    """
    import timm

    permit(f"timm:{name}", origin, elsewhere=":" in name or "/" in name, pretrained=pretrained)
    arguments: dict[str, Any] = {"in_chans": in_channels, "pretrained": pretrained}
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    try:
        try:
            size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
            model: nn.Module = timm.create_model(name, **size, **arguments)
        except TypeError as error:
            # Try instead of keeping a list: which models of timm accept a size changes by release.
            if "img_size" not in str(error):
                raise
            model = timm.create_model(name, **arguments)
    except Exception as error:
        raise cannot_build("timm", name, pretrained, error) from error
    published: Any = getattr(model, "pretrained_cfg", {})
    if pretrained and num_classes not in (None, 0, published.get("num_classes")):
        zero_head(model)
    return model


def from_torchvision(
    name: str, num_classes: int | None, in_channels: int, image_size: ImageSize | None, pretrained: bool, origin: Origin
) -> nn.Module:
    """Build a torchvision classifier.

    torchvision models have three input channels; for another number the first convolution is replaced by a new one.
    Pretrained weights have their own classes; for another number every layer that outputs them, auxiliary heads
    included, is replaced by a new one.

    Args:
        name: as ``torchvision.models.get_model`` takes it.
        num_classes: length of the logits; None builds as many as the default weights have.
        in_channels: channels of the images.
        image_size: the vision transformers are built for it.
        pretrained: download the default weights.
        origin: where the name comes from.

    Returns:
        The model.

    Raises:
        UntrustedError: a file that is not trusted requires published weights.
        InputError: torchvision refuses these arguments, the weights cannot be downloaded, or pretrained weights do not
            fit the channels of the images or, with a transformer, their size.
    """
    permit(f"torchvision:{name}", origin, elsewhere=False, pretrained=pretrained)
    models = _torchvision_models()
    if pretrained and in_channels != 3:
        raise InputError(
            f"torchvision:{name} has pretrained weights for 3 channels, not {in_channels}; "
            "use the timm model of that name, which adapts them, or pretrained=False"
        )
    arguments: dict[str, Any] = {"weights": "DEFAULT"} if pretrained else {}
    if num_classes is not None and not pretrained:
        arguments["num_classes"] = num_classes
    if image_size is not None and name.startswith("vit_"):
        if isinstance(image_size, tuple):
            height, width = image_size
            raise InputError(
                f"torchvision:{name} takes square images only, not {width}x{height}; give image_size={min(image_size)}"
            )
        arguments["image_size"] = image_size
    try:
        model: nn.Module = models.get_model(name, **arguments)
        if pretrained and num_classes is not None:
            known = len(models.get_model_weights(name)["DEFAULT"].meta["categories"])
            replace_heads(model, known, num_classes)
    except Exception as error:
        raise cannot_build("torchvision", name, pretrained, error) from error
    if in_channels != 3:
        _replace_stem(model, in_channels)
    return model


def replace_heads(model: nn.Module, known: int, num_classes: int) -> None:
    """Replace every linear layer or 1x1 convolution that outputs ``known`` classes by one of zeros, in place.

    Nothing happens if both numbers are equal.

    Args:
        model: a classifier.
        known: the current number of classes.
        num_classes: the required number of classes.
    """
    if known == num_classes:
        return
    for path, layer in list(model.named_modules()):
        fresh: nn.Module
        if isinstance(layer, nn.Linear) and layer.out_features == known:
            fresh = nn.Linear(layer.in_features, num_classes, bias=layer.bias is not None)
        elif isinstance(layer, nn.Conv2d) and layer.out_channels == known and layer.kernel_size == (1, 1):
            fresh = nn.Conv2d(layer.in_channels, num_classes, 1, bias=layer.bias is not None)
        else:
            continue
        for parameter in fresh.parameters():
            nn.init.zeros_(parameter)
        model.set_submodule(path, fresh)


def converted_by_timm(state: Mapping[str, Any], model: nn.Module) -> dict[str, Any] | None:
    """Convert a checkpoint with timm's own function for an architecture.

    It renames the tensors of the authors' files, drops buffers that are computed, and resizes position embeddings.

    Args:
        state: the tensors by name; not changed.
        model: a timm model, or any other.

    Returns:
        The tensors under the names of the model; None without such a function, or where it fails.
    """
    module = type(model).__module__
    convert = getattr(sys.modules.get(module), "checkpoint_filter_fn", None) if module.startswith("timm.") else None
    if convert is None:
        return None
    try:
        return dict(convert(dict(state), model))
    except Exception:  # noqa: BLE001  it is written for the files of one network, and fails in any way on others
        return None


def permit(spec: str, origin: Origin, *, elsewhere: bool, pretrained: bool) -> None:
    """Refuse to read or download what only an untrusted file names.

    Args:
        spec: the model.
        origin: where its name comes from.
        elsewhere: whether the name is an address, so that even the architecture is read from a hub or a folder.
        pretrained: whether published weights are required.
    """
    if elsewhere and not origin.names:
        raise UntrustedError(
            f"{shown(origin.place)} names {shown(spec)}: a model's description would be read from that address, and "
            f"downloaded if it is a hub's. Nothing was read; {ADVICE}"
        )
    if pretrained and not origin.fetch:
        raise UntrustedError(
            f"{shown(origin.place)} requires the published weights of {shown(spec)}, which would be downloaded. "
            f"Nothing was downloaded; {ADVICE}"
        )


def _torchvision_models() -> Any:
    """Return the module ``torchvision.models``, typed as Any because its exports are not declared."""
    import torchvision

    return torchvision.models


def _replace_stem(model: nn.Module, in_channels: int) -> None:
    """Replace the first convolution by a new one for this many channels."""
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            fresh = nn.Conv2d(
                in_channels,
                layer.out_channels,
                kernel_size=layer.kernel_size,  # type: ignore[arg-type]
                stride=layer.stride,  # type: ignore[arg-type]
                padding=layer.padding,  # type: ignore[arg-type]
                bias=layer.bias is not None,
            )
            model.set_submodule(path, fresh)
            return


def cannot_build(source: str, name: str, pretrained: bool, error: Exception) -> InputError:
    """Return the error for a model that its library cannot build."""
    if pretrained:
        return InputError(
            f"{source}:{name} with pretrained=True cannot be loaded: {first_line(error)}; offline, give "
            "checkpoint=FILE with weights downloaded elsewhere, or pretrained=False"
        )
    return InputError(f"{source}:{name} cannot be built: {first_line(error)}")
