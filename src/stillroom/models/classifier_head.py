"""Classifier head: the layers of a model that compute its logits, and how many classes they have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stillroom.models.hooks import inside
from stillroom.models.probe import probe_model


def head_names(model: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Find the layers that compute a model's logits.

    A timm model names them (``get_classifier``), two of them where the logits are the mean of two layers. In any other
    model it is the linear layer that :func:`stillroom.models.probe.probe_model` finds.

    Args:
        model: any classifier, wrapped or not.
        images: two or more different images (B, C, H, W) that it accepts.

    Returns:
        Names of submodules of the model inside its wrappers; empty if there is no such layer.
    """
    if found := _named_head(model):
        return found
    name = probe_model(model, images).head
    return (name,) if name else ()


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """Find the head without images: the layers that a timm model names, of another model the last one.

    A two-stage detector has two, which compute the logits and the boxes of regions, in this order.

    Args:
        model: a classifier or a detector, also on the meta device.

    Returns:
        Names of linear layers and convolutions; empty if there are none, or if a timm model has no head.
    """
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if callable(getattr(model, "get_classifier", None)):
        heads = _named_head(model)
        return tuple(name for name in layers if any(name == head or name.startswith(f"{head}.") for head in heads))
    regions = tuple(name for name in layers if name.startswith("roi_heads.box_predictor."))
    return regions or tuple(layers[-1:])


def head_classes(model: nn.Module, state: Mapping[str, Any] | None = None) -> int | None:
    """How many classes a model's head has, or the head of other weights for it.

    Args:
        model: a classifier.
        state: its tensors by name; by default the model's own.

    Returns:
        The number; None where there is no head.
    """
    tensors = model.state_dict() if state is None else state
    weights = (tensors.get(f"{name}.weight") for name in last_layers(model))
    return next((int(weight.shape[0]) for weight in weights if isinstance(weight, Tensor) and weight.ndim), None)


def zero_head(model: nn.Module) -> None:
    """Set the weights of the last layers to zero, in place.

    Below a new head lie trained layers. The gradients of random predictions would destroy them before the head has
    learned anything; those of uniform predictions are small (Kolesnikov et al., "Big Transfer", ECCV 2020).

    Args:
        model: as for :func:`last_layers`.
    """
    for name in last_layers(model):
        for parameter in model.get_submodule(name).parameters():
            nn.init.zeros_(parameter)


def _named_head(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers with weights that ``get_classifier`` of a timm model returns."""
    own = getattr(inside(model), "get_classifier", None)
    layers = own() if callable(own) else ()
    layers = layers if isinstance(layers, tuple | list) else (layers,)
    names = {
        id(module): name for name, module in inside(model).named_modules() if any(True for _ in module.parameters())
    }
    return tuple(names[id(layer)] for layer in layers if names.get(id(layer)))
