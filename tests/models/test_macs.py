from __future__ import annotations

import torch
from torch import nn

from stillroom.models import build_model
from stillroom.models.macs import count_macs


def test_multiplications_are_those_of_convolutions_and_the_last_layer():
    # 8x8 images, stem of stride 2: 4x4; stages at 4x4, 2x2 and 1x1 with a 1x1 shortcut where the width changes.
    model = build_model("stillroom.models.demo_nets:small", num_classes=4)
    stem = 16 * 9 * 3 * 8
    one = 16 * 9 * (8 * 8 + 8 * 8)
    two = 4 * (9 * (8 * 16 + 16 * 16) + 8 * 16)
    three = 1 * (9 * (16 * 32 + 32 * 32) + 16 * 32)
    assert count_macs(model, torch.zeros(1, 3, 8, 8)) == stem + one + two + three + 32 * 4


def test_counting_leaves_a_model_as_it_was():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5))
    assert count_macs(model.train(), torch.ones(2, 3, 4, 4)) == 2 * 16 * 3 * 2
    assert model.training
    assert model[1].num_batches_tracked == 0
