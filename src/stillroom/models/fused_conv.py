"""A convolution that computes the batch norm, the sum and the activation behind it as well."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

# What oneDNN calls the activations that it computes with a convolution, and their bounds.
ACTIVATIONS: dict[Any, tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}


class Norm:
    """What a batch norm does in evaluation mode.

    Args:
        mean: of each channel, (C,).
        var: of each channel, (C,).
        scale: (C,); None for 1.
        shift: (C,); None for 0.
        eps: added to the variance.
    """

    def __init__(self, mean: Tensor, var: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float) -> None:
        self.mean, self.var, self.eps = mean, var, eps
        self.scale = torch.ones_like(mean) if scale is None else scale
        self.shift = torch.zeros_like(mean) if shift is None else shift


class FoldedConv(nn.Module):
    """A convolution with what follows it, for inference: activation(norm(conv(images)) [+ other]).

    Args:
        conv: the convolution; it is not changed.
        norm: the batch norm, or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, norm: Norm | None) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        if norm is not None:
            folded = fuse_conv_bn_weights(weight, bias, norm.mean, norm.var, norm.eps, norm.scale, norm.shift)
            weight, bias = (parameter.detach() for parameter in folded)
            if conv.weight.is_contiguous(memory_format=torch.channels_last):
                weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.place = (conv.stride, cast("tuple[int, int]", conv.padding), conv.dilation, conv.groups)
        self.activation: nn.Module | None = None
        self._cast: dict[torch.dtype, tuple[Tensor, Tensor | None]] = {}

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """(B, C, H, W), and the other summand if there is one -> (B, K, H', W')."""
        images, weight, bias = self._in_dtype(images)
        if self._fuses(images, other):
            return self._fused(images, weight, bias, other)
        stride, padding, dilation, groups = self.place
        maps = F.conv2d(images, weight, bias, stride, padding, dilation, groups)
        if other is not None:
            maps = maps + other
        return maps if self.activation is None else cast("Tensor", self.activation(maps))

    def _in_dtype(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Everything in autocast's number format; the weights are rounded once, not in every pass."""
        kind = images.device.type
        if not torch.is_autocast_enabled(kind) or self.weight.dtype != torch.float32:
            return images, self.weight, self.bias
        dtype = torch.get_autocast_dtype(kind)
        found = self._cast.get(dtype)
        if found is None or found[0].device != self.weight.device:
            found = self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
            self._cast[dtype] = found
        return images.to(dtype), *found

    def _fuses(self, images: Tensor, other: Tensor | None) -> bool:
        """Whether oneDNN computes the whole at once; it does not broadcast the other summand."""
        if self.activation is None or torch.is_grad_enabled() or not _has_onednn(images):
            return False
        if other is None:
            return True
        stride, padding, dilation, _ = self.place
        sides = [
            (size + 2 * padding[i] - dilation[i] * (self.weight.shape[2 + i] - 1) - 1) // stride[i] + 1
            for i, size in enumerate(images.shape[2:])
        ]
        return other.dtype == images.dtype and tuple(other.shape) == (len(images), len(self.weight), *sides)

    def _fused(self, images: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor | None) -> Tensor:
        stride, padding, dilation, groups = self.place
        place = (padding, stride, dilation, groups)
        name, bounds = ACTIVATIONS[type(self.activation)]
        convolve = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            return cast("Tensor", convolve(images, weight, bias, *place, name, bounds, ""))
        return cast("Tensor", convolve.binary(images, other, weight, bias, *place, "add", 1.0, name, bounds, None))


def _has_onednn(images: Tensor) -> bool:
    """Whether oneDNN's fused convolutions are there for a tensor."""
    return (
        images.device.type == "cpu"
        and images.dtype == torch.float32
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")  # no such build, no such operator
    )
