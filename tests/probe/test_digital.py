import colorsys

import numpy as np
import pytest

from stillroom.probe.corruptions import generator
from stillroom.probe.digital import brightness, elastic_transform, jpeg_compression, lower_contrast, pixelate

DRAWS = [generator(0, 0, "digital", 1)]


def colours() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.05, 0.5, (1, 3, 16, 16)).astype(np.float32)


def test_brightness_keeps_hue_and_saturation():
    before, after = colours(), brightness(colours(), DRAWS, 1)
    for row in range(16):
        hue, saturation, value = colorsys.rgb_to_hsv(*before[0, :, row, 3])
        assert colorsys.rgb_to_hsv(*after[0, :, row, 3]) == pytest.approx((hue, saturation, value + 0.12), abs=1e-5)


def test_brightness_makes_black_grey():
    np.testing.assert_allclose(brightness(np.zeros((1, 3, 8, 8), np.float32), DRAWS, 1), 0.12, atol=1e-6)


def test_contrast_keeps_the_mean_and_shrinks_the_differences():
    before, after = colours(), lower_contrast(colours(), DRAWS, 5)
    assert after.mean() == pytest.approx(before.mean(), abs=2e-3)
    assert after.std() == pytest.approx(0.2 * before.std(), rel=1e-3)


def test_pixelate_leaves_few_pixels():
    assert len(np.unique(pixelate(colours()[:, :1].repeat(2, 2).repeat(2, 3), DRAWS, 5))) <= 10**2


def test_jpeg_compression_keeps_an_even_image():
    images = np.full((1, 3, 16, 16), 0.6, np.float32)
    np.testing.assert_allclose(jpeg_compression(images, DRAWS, 5), images, atol=0.02)


def test_elastic_transform_moves_pixels_a_little():
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None, None, None].repeat(64, axis=2)
    moved = (elastic_transform(ramp, [generator(0, 0, "elastic", 1)], 1) - ramp)[0, 0, :, 8:-8] * 63
    assert 0.3 < moved.std() < 3 * 0.02 * 64
    assert np.abs(np.diff(moved, axis=0)).max() < 1  # neighbours move together
