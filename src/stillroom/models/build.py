"""Build a classifier from a zoo name, timm, torchvision, or the user's function or module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

import torch
from torch import nn

from stillroom.errors import InputError, did_you_mean
from stillroom.models import external, factory
from stillroom.models.detector_architectures import BUILDERS
from stillroom.models.efficientnet_lite0 import ARCHITECTURE, EFFICIENTNET_LITE0, efficientnet_lite0
from stillroom.models.output import ImageSize, check_output
from stillroom.models.weights import classes_of_checkpoint, load_weights
from stillroom.models.zoo import ZOO
from stillroom.trust import TYPED, Origin

if TYPE_CHECKING:
    from pathlib import Path

BARE_NAMES = (*ZOO, EFFICIENTNET_LITE0, *BUILDERS)  # models whose names have no colon, detectors included
PRETRAINED_NAMES = (EFFICIENTNET_LITE0,)  # those that always come with published weights


def is_published(spec: str) -> bool:
    """Whether there may be published weights for a model's name: from timm, torchvision, or a package of their own.

    Those of a detector's bare name are for its backbone.
    """
    return spec in (*PRETRAINED_NAMES, *BUILDERS) or spec.startswith(("timm:", "torchvision:"))


def without_weights(spec: str) -> str:
    """The name that builds the same network without published weights, for weights that are loaded afterwards."""
    return f"timm:{ARCHITECTURE}" if spec == EFFICIENTNET_LITE0 else spec


def build_model(
    spec: str | nn.Module,
    *,
    num_classes: int | None,
    in_channels: int = 3,
    image_size: ImageSize | None = None,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    new_head: bool | None = False,
    origin: Origin = TYPED,
) -> nn.Module:
    """Build a classifier.

    Args:
        spec: a name of the zoo (``resnet20``); ``efficientnet-lite0``, which comes with weights; ``timm:NAME``;
            ``torchvision:NAME``; ``package.module:function``, called with ``num_classes=`` and, where its signature
            takes it, ``in_channels=``; or a module, returned as it is.
        num_classes: length of the logits, >= 1. None keeps the classes of the weights: those of the checkpoint, or of
            the published weights; a function is called without it, and a module keeps its own.
        in_channels: channels of the images, >= 1.
        image_size: height and width of the images, one number if they are equal. Transformers are built for it, and
            the model is tested on blank images of that size.
        pretrained: download the published weights of a timm or torchvision model. A head with another number of classes
            is replaced by a new one.
        checkpoint: weights to load strictly afterwards; see ``load_weights``.
        new_head: whether a checkpoint for another number of classes is accepted: the head starts with zeros.
            None as for ``load_weights``.
        origin: where ``spec`` comes from; by default from the user. A name in a file that is not trusted is neither
            imported nor looked up on a hub.

    Returns:
        The model in training mode (a module handed in keeps its mode), on the CPU.

    Raises:
        UntrustedError: ``origin`` does not permit the import or download that the name requires.
        InputError: an unknown name (with close matches), a model that cannot be built or fails on such images,
            weights that cannot be downloaded or do not fit, ``num_classes`` None where no weights have classes.
    """
    if isinstance(image_size, tuple) and image_size[0] == image_size[1]:
        image_size = image_size[0]
    for name, value in (
        ("num_classes", num_classes),
        ("in_channels", in_channels),
        ("image_size", min(image_size) if isinstance(image_size, tuple) else image_size),
    ):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, got {value}")
    if pretrained and checkpoint is not None:
        raise InputError("pretrained=True and checkpoint both name weights; give one of them")
    if checkpoint is not None and isinstance(spec, str):
        spec = without_weights(spec)  # the checkpoint's replace them
    if num_classes is None and checkpoint is not None and isinstance(spec, str):
        num_classes = classes_in(checkpoint, spec, in_channels, image_size, origin)
        if num_classes is None:
            raise InputError(
                f"{checkpoint} has no head for {spec}, so its classes are not known: give num_classes, or for a "
                "teacher teacher_output=embedding"
            )
    model = construct(spec, num_classes, in_channels, image_size, pretrained, origin)
    if num_classes is None and getattr(model, "num_classes", None) == 0:  # as timm says it
        raise InputError(
            f"{spec} has no classes: it is a backbone without a classifier; give num_classes, or for a teacher "
            "teacher_output=embedding"
        )
    if checkpoint is not None:
        load_weights(model, checkpoint, new_head=new_head)
    if image_size is not None:
        check_output(model, num_classes, in_channels, image_size)
    return model


def classes_in(
    checkpoint: str | Path, spec: str, in_channels: int, image_size: ImageSize | None, origin: Origin
) -> int | None:
    """How many classes the head in a checkpoint of this model has; None if it has no head."""
    with torch.random.fork_rng(devices=()):  # the model that is built here is dropped
        return classes_of_checkpoint(checkpoint, construct(spec, 2, in_channels, image_size, False, origin))


def construct(
    spec: str | nn.Module,
    num_classes: int | None,
    in_channels: int,
    image_size: ImageSize | None,
    pretrained: bool,
    origin: Origin,
) -> nn.Module:
    """Build the model that ``spec`` names, before any checkpoint; without a classifier for 0 classes."""
    if isinstance(spec, str):
        source, colon, name = spec.partition(":")
        if colon and source == "timm":
            _known(external.is_timm(name), spec, "timm", external.timm_names)
            return external.from_timm(name, num_classes, in_channels, image_size, pretrained, origin)
        if colon and source == "torchvision":
            _known(name in external.torchvision_names(), spec, "torchvision", external.torchvision_names)
            return external.from_torchvision(name, num_classes, in_channels, image_size, pretrained, origin)
        if spec == EFFICIENTNET_LITE0:
            return efficientnet_lite0(num_classes, in_channels)
        if not colon and spec not in ZOO:
            raise InputError(unknown_name(spec))
    if pretrained:
        shown = spec if isinstance(spec, str) else type(spec).__name__
        raise InputError(f"pretrained=True: there are no published weights for {shown}; give checkpoint=FILE")
    if isinstance(spec, nn.Module):
        return spec
    if num_classes is None and not colon:
        raise InputError(f"{spec} has no published weights, and so no classes of its own: give num_classes")
    return (
        factory.from_function(spec, num_classes, in_channels, origin) if colon else ZOO[spec](num_classes, in_channels)
    )


def _known(known: bool, spec: str, source: str, names: Callable[[], Sequence[str]]) -> None:
    """Refuse a name that its library does not have; the list of names is made only if needed."""
    if not known:
        name = spec.partition(":")[2]
        close = [f"{source}:{match}" for match in get_close_matches(name, names(), n=3)]
        raise InputError(f"{source} has no model {name!r}{did_you_mean(close)}")


def unknown_name(name: str) -> str:
    """Return the message for a bare name that is not in the zoo, with libraries that have it or similar names."""
    if name in BUILDERS:
        return (
            f"{name} is a detector; it requires data with boxes: scenes, or a folder in the layout of COCO, VOC or "
            "YOLO. For images with labels, give a classifier"
        )
    zoo = {known.lower(): known for known in BARE_NAMES}
    options = [zoo[match] for match in get_close_matches(name.lower(), zoo, n=3, cutoff=0.7)]
    prefixed = []
    if external.is_timm(name):
        prefixed.append(f"timm:{name}")
    if name in external.torchvision_names():
        prefixed.append(f"torchvision:{name}")
    # An exact name of a library comes before a similar name of the zoo.
    options = prefixed + options
    if not options:
        options = [f"timm:{match}" for match in get_close_matches(name, external.timm_names(), n=3)]
    others = "; `stillroom list models` shows the zoo; or use timm:NAME, torchvision:NAME, package.module:function"
    return f"the zoo has no model {name!r}{did_you_mean(options, others)}"
