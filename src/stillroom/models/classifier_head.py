"""Classifier head: the layers of a model that compute its logits."""

from __future__ import annotations

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
    own = getattr(inside(model), "get_classifier", None)
    layers = own() if callable(own) else ()
    layers = layers if isinstance(layers, tuple | list) else (layers,)
    names = {
        id(module): name for name, module in inside(model).named_modules() if any(True for _ in module.parameters())
    }
    found = tuple(names[id(layer)] for layer in layers if names.get(id(layer)))
    if found:
        return found
    name = probe_model(model, images).head
    return (name,) if name else ()
