import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from stillroom.data.random_erasing import draw_erasing, erase
from stillroom.input_format import InputFormat, InputTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize("size", [(224, 224), (60, 200)])
def test_rectangles_have_the_published_area_and_ratio(size):
    top, left, bottom, right = draw_erasing(0.25, 0, 0, torch.arange(20_000), size).unbind(1)
    height, width = (bottom - top).double(), (right - left).double()
    erased = height > 0
    assert torch.equal(erased, width > 0)
    assert abs(erased.double().mean() - 0.25) < 0.01
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (bottom <= size[0]).all()
    assert (right <= size[1]).all()
    area = (height * width / (size[0] * size[1]))[erased]
    assert 0.018 < area.min() < 0.025
    assert 0.32 < area.max() < 0.34
    assert abs(area.mean() - 0.175) < 0.005
    ratio = (height / width)[erased]
    assert ratio.min() > 0.27
    assert ratio.max() < 3.7
    if size == (224, 224):
        assert ratio.min() < 0.33
        assert ratio.max() > 3


def test_erased_pixels_are_zero_after_normalisation_as_in_torchvision():
    pixels = torch.randint(0, 256, (6, 3, 20, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes = draw_erasing(1.0, 0, 0, torch.arange(6), (20, 16))
    normalise = InputTransform(InputFormat(MEAN, STD))
    plain = normalise(pixels)
    expected = plain.clone()
    for image, (top, left, bottom, right) in zip(expected, boxes.tolist(), strict=True):
        tv.erase(image, top, left, bottom - top, right - left, torch.zeros(3, 1, 1), inplace=True)
    assert not torch.equal(expected, plain)
    torch.testing.assert_close(normalise(erase(pixels.float(), boxes, MEAN)), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(normalise(erase(pixels, boxes, MEAN)), expected, atol=0.5 / 255 / min(STD), rtol=0)


def test_choices_depend_on_seed_epoch_and_id_only():
    whole, ids = draw_erasing(0.5, 3, 7, torch.arange(50), (20, 16)), torch.tensor([41, 3, 17])
    assert torch.equal(draw_erasing(0.5, 3, 7, ids, (20, 16)), whole[ids])
    for seed, epoch in ((4, 7), (3, 8)):
        assert not torch.equal(draw_erasing(0.5, seed, epoch, torch.arange(50), (20, 16)), whole)
