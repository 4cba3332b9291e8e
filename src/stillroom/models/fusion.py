"""Conv-BN fusion: a faster copy of a network that is used for its logits only."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from stillroom.models.output import evaluating, logits_of

# Of the largest logit. Fusion changes nothing but the rounding: a few 1e-6 were measured.
TOLERANCE = 2e-5


def fused_copy(model: nn.Module, example: Tensor) -> nn.Module:
    """Copy a network with each batch norm merged into the convolution before it, by ``torch.fx``.

    The copy shares every other weight with the model, which stays as it is. It is valid while the model's weights do
    not change.

    Args:
        model: any network, on its device and in its memory layout; it is traced in evaluation mode.
        example: (B, C, H, W) images as the network will get them, B >= 2; the copy's logits must equal the model's on
            them within 2e-5 of the largest.

    Returns:
        The copy in evaluation mode; the model itself if it has hooks or parametrizations, cannot be traced, has no such
        batch norm, or if the copy's logits differ.
    """
    if any(_has_hooks(module) for module in model.modules()):
        return model
    from torch.fx.experimental.optimization import fuse

    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    try:
        with evaluating(model), torch.no_grad():
            root = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})  # new modules, the same tensors
            fast = fuse(root, inplace=True)
            fused = _batch_norms(fast) < _batch_norms(model)
            return fast.eval() if fused and _same_logits(model, fast, example) else model
    except Exception:  # noqa: BLE001 - whatever a model that cannot be traced raises: it still works as it is
        return model


def _has_hooks(module: nn.Module) -> bool:
    """Whether a module has hooks or computed weights, which a copy would lose."""
    return bool(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) for module in model.modules())


def _same_logits(model: nn.Module, fast: nn.Module, example: Tensor) -> bool:
    """Whether both give the same logits for a batch and for a single image."""
    for images in (example, example[:1]):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            wanted, got = logits_of(model(images)), logits_of(fast(images))
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            return False
        # Written so that NaN anywhere is a difference.
        if not bool((wanted - got).abs().max() <= TOLERANCE * wanted.abs().max()):
            return False
    return True
