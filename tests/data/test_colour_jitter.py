from itertools import permutations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from stillroom.data.colour_jitter import JITTER, draw_jitter
from stillroom.data.image_operations import apply_in_turn

ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)


@pytest.mark.parametrize("channels", [1, 3])
def test_equals_torchvision_for_the_drawn_factors_and_order(channels):
    images = torch.randint(
        0, 256, (24, channels, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    turns = draw_jitter(0.9, 0, 1, torch.arange(24))
    made = apply_in_turn(images, JITTER, turns)
    for image, view, order, factors in zip(images, made, turns.operation, turns.strength, strict=True):
        expected = image
        for operation, factor in zip(order.tolist(), factors.tolist(), strict=True):
            expected = ADJUST[operation](expected, factor)
        off = (view.int() - expected.int()).abs()
        # torchvision rounds a grey pixel's mixture with itself down by up to 1 each time.
        assert off.max() <= 3
        assert off.float().mean() < 0.1
    assert [operation.name for operation in JITTER] == ["brightness", "contrast", "saturation"]


def test_factors_fill_the_range_in_every_order():
    turns = draw_jitter(0.4, 3, 2, torch.arange(6000))
    assert {tuple(order) for order in turns.operation.tolist()} == set(permutations(range(3)))
    for number in range(3):
        factors = turns.strength[turns.operation == number]
        assert 0.6 <= factors.min() < 0.605
        assert 1.395 < factors.max() <= 1.4
        assert abs(factors.mean() - 1) < 0.01
    counts = torch.bincount(turns.operation[:, 0]) / 6000
    torch.testing.assert_close(counts, torch.full((3,), 1 / 3), atol=0.03, rtol=0)


def test_choices_depend_on_seed_epoch_and_id_only():
    whole, ids = draw_jitter(0.4, 3, 7, torch.arange(50)), torch.tensor([41, 3, 17])
    part = draw_jitter(0.4, 3, 7, ids)
    assert torch.equal(part.strength, whole.take(ids).strength)
    assert torch.equal(part.operation, whole.take(ids).operation)
    for seed, epoch in ((4, 7), (3, 8)):
        assert not torch.equal(draw_jitter(0.4, seed, epoch, ids).strength, part.strength)
