from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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


@pytest.mark.parametrize("name", ["resnet20", "timm:test_vit", "torchvision:shufflenet_v2_x0_5"])
def test_counts_are_those_of_torchs_own_counter(name):
    model, images = build_model(name, num_classes=4, image_size=32).eval(), torch.zeros(1, 3, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    assert count_macs(model, images) == counter.get_total_flops() // 2


def test_counting_does_not_import_torchs_compiler():
    code = (
        "import sys, torch; from stillroom.models.macs import count_macs; "
        "count_macs(torch.nn.Linear(2, 2), torch.zeros(1, 2)); assert 'torch._dynamo' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
