import pytest
import torch
from torch import nn

from stillroom.models.cifar.pieces import init_convolutions, shuffle_channels


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_shuffle_deals_groups_out_in_turn(groups):
    channels = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 2, 3)
    shuffled = shuffle_channels(channels, groups)
    size = 6 // groups
    expected = [g * size + i for i in range(size) for g in range(groups)]
    assert shuffled.shape == (2, 6, 2, 3)
    assert shuffled[1, :, 1, 2].tolist() == expected


def test_depthwise_convolutions_count_every_output_channel():
    torch.manual_seed(0)
    conv = nn.Conv2d(512, 512, 3, groups=512)
    init_convolutions(conv)
    assert conv.weight.std().item() == pytest.approx((2 / (9 * 512)) ** 0.5, rel=0.05)
    assert conv.bias.abs().max() == 0
