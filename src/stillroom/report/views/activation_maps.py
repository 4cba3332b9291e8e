"""Class-activation maps: Grad-CAM on a network's last spatial map, through captum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stillroom.models import logits_of
from stillroom.models.hooks import Point, inside
from stillroom.models.model_parts import ModelParts
from stillroom.models.output import evaluating
from stillroom.models.probe import probe_model

BATCH = 16


def activation_maps(model: nn.Module, images: Tensor, classes: Tensor) -> tuple[Tensor | None, str]:
    """The class-activation map of every image for one class each.

    Args:
        model: any classifier, on the images' device.
        images: (N, channels, H, W), normalised.
        classes: (N,), what to explain.

    Returns:
        Maps (N, h, w) from 0 to 1, each divided by its own maximum (all 0 where nothing supports the class), and an
        empty text; or None and the reason why there is none.

    Reference:
        Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv 1610.02391.
    """
    offers = probe_model(model, images[:2])
    point = last_map(offers)
    if point is None:
        return None, f"{offers.model} has no spatial map (C, H, W) of more than one pixel"
    return _grad_cam(model, point, images, classes), ""


def last_map(offers: ModelParts) -> Point | None:
    """The map before the classifier, or the last stage that is a map of more than one pixel; None without one."""
    if offers.final_map is not None:
        return offers.final_map
    maps = [place for place in offers.stages if place.layout == "map" and place.size not in (None, (1, 1))]
    return maps[-1].point if maps else None


def _grad_cam(model: nn.Module, point: Point, images: Tensor, classes: Tensor) -> Tensor:
    from captum.attr import LayerGradCam

    layer = inside(model).get_submodule(point.module)
    explain = LayerGradCam(lambda images: logits_of(model(images)), layer)
    found = []
    with evaluating(model), torch.enable_grad():
        for few, of in zip(torch.split(images, BATCH), torch.split(classes, BATCH), strict=True):
            maps = explain.attribute(
                few, of, attribute_to_layer_input=point.side == "input", relu_attributions=True
            )  # fmt: skip
            first = maps[0] if isinstance(maps, tuple) else maps  # as the point is read: the first of several
            found.append(first.detach()[:, 0])
    maps = torch.cat(found)
    return maps / maps.amax((1, 2), keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
