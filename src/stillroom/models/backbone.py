"""Backbone: a network without a classifier, whose output is the embedding of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.models.build import classes_in, construct
from stillroom.models.hooks import inside
from stillroom.models.output import ImageSize
from stillroom.models.probe import probe_model
from stillroom.models.weights import load_weights
from stillroom.trust import TYPED, Origin

if TYPE_CHECKING:
    from pathlib import Path


def build_backbone(
    spec: str | nn.Module,
    *,
    in_channels: int = 3,
    image_size: ImageSize | None = None,
    pretrained: bool = False,
    checkpoint: str | Path | None = None,
    origin: Origin = TYPED,
) -> nn.Module:
    """Build a network that returns one vector for each image, (B, D).

    Args:
        spec: ``timm:NAME``, built without its classifier, so that its output is the pooled embedding;
            ``package.module:function``, called with ``num_classes=0`` if its signature takes it; or a module, returned
            as it is.
        in_channels: channels of the images, >= 1.
        image_size: as for :func:`stillroom.models.build_model`.
        pretrained: download the published weights of a timm model.
        checkpoint: file with weights. That of a timm model may have a head, which is left out.
        origin: as for :func:`stillroom.models.build_model`.

    Raises:
        UntrustedError: ``origin`` does not permit the import or download that the name requires.
        InputError: the model cannot be built, or the weights do not fit.
    """
    classes = 0
    if isinstance(spec, str) and spec.startswith("timm:") and checkpoint is not None:
        classes = classes_in(checkpoint, spec, in_channels, image_size, origin) or 0
    model: Any = construct(spec, classes, in_channels, image_size, pretrained, origin)
    if checkpoint is not None:
        load_weights(model, checkpoint)
    if classes:
        model.reset_classifier(0)
    built: nn.Module = model
    return built


def without_head(model: nn.Module, in_channels: int, size: tuple[int, int]) -> nn.Module:
    """Replace the linear layer that computes a classifier's logits, in place, so that its input becomes the output.

    Args:
        model: a classifier, on the CPU.
        in_channels: channels of its images.
        size: their height and width.

    Returns:
        The same model.

    Raises:
        InputError: it does not end in one linear layer.
    """
    images = torch.rand(2, in_channels, *size, generator=torch.Generator().manual_seed(0))
    parts = probe_model(model, images)
    if lacking := parts.lacks("embedding"):
        raise InputError(f"{lacking}, so that it has no embedding; give a network whose output is the embedding")
    inside(model).set_submodule(parts.head, nn.Identity())
    return model
