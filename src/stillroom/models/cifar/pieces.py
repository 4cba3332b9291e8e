"""Convolutions, channel shuffle and weight initialisation shared by several families."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


def conv3x3(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 3x3 convolution without bias, padded to keep the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A 1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, groups=groups, bias=False)


def shuffle_channels(features: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups, so that the next grouped convolution sees every group.

    Args:
        features: (B, C, H, W), C divisible by ``groups``.
        groups: number of groups.

    Returns:
        (B, C, H, W): channel ``i`` of group ``g`` moves to index ``i * groups + g``.

    Source: Zhang et al., ShuffleNet (CVPR 2018), section 3.1.
    """
    batch, channels, height, width = features.shape
    grouped = features.reshape(batch, groups, channels // groups, height, width)
    return grouped.transpose(1, 2).reshape(features.shape)


def init_convolutions(model: nn.Module) -> None:
    """Initialise every convolution from He's normal distribution by fan-out, with zero bias.

    Batch norms start at scale 1 and shift 0 by default. Linear layers are initialised by each family.

    Source: He et al., Delving Deep into Rectifiers (ICCV 2015), equation 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            if not module.weight.is_meta:  # a normal draw on the meta device makes torch import its compiler for 5 s
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_small_head(head: nn.Linear) -> None:
    """Initialise a classifier head from N(0, 0.01²) with zero bias: predictions start near uniform."""
    if not head.weight.is_meta:
        nn.init.normal_(head.weight, std=0.01)
    nn.init.zeros_(head.bias)
