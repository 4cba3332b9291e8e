import numpy as np
import pytest

from stillroom.probe.image_fields import clouds, convolved, detail_scale, enlarged, gaussian, read_at, strength, stroke

IMAGES = np.random.default_rng(0).random((2, 3, 12, 9), np.float32)


def test_strengths_run_from_mild_to_severe_in_equal_ratios():
    found = [strength(2, 32, severity) for severity in range(1, 6)]
    assert found == pytest.approx([2, 4, 8, 16, 32])


def test_detail_scale_is_one_at_32_pixels():
    assert detail_scale(np.zeros((1, 3, 32, 40), np.float32)) == 1
    assert detail_scale(np.zeros((1, 3, 128, 128), np.float32)) == 2
    assert detail_scale(np.zeros((1, 3, 9999, 1000), np.float32)) == 4


def test_convolution_agrees_with_scipy():
    from scipy.ndimage import convolve

    kernel = np.random.default_rng(1).random((5, 5), np.float32)
    expected = np.stack([[convolve(channel, kernel, mode="reflect") for channel in image] for image in IMAGES])
    np.testing.assert_allclose(convolved(IMAGES, [kernel]), expected, atol=1e-5)


def test_reading_between_pixels_agrees_with_scipy():
    from scipy.ndimage import map_coordinates

    rows, columns = np.random.default_rng(2).uniform(-4, 13, (2, 2, 12, 9)).astype(np.float32)
    expected = np.stack([
        [map_coordinates(channel, (rows[i], columns[i]), order=1, mode="reflect") for channel in image]
        for i, image in enumerate(IMAGES)
    ])  # fmt: skip
    np.testing.assert_allclose(read_at(IMAGES, rows, columns), expected, atol=1e-5)


def test_a_stroke_covers_the_area_of_its_line():
    assert stroke(0, 5, 0).sum() == pytest.approx(np.pi * 25, rel=0.03)
    assert stroke(20, 2, 0.7).sum() == pytest.approx(np.pi * 4 + 80, rel=0.05)
    assert stroke(20, 2, 0.7).shape == stroke(20, 2, 0).shape


def test_a_gaussian_has_its_deviation():
    kernel = gaussian(1.5)
    places = np.arange(len(kernel)) - len(kernel) // 2
    assert kernel.sum() == pytest.approx(1)
    assert np.sqrt((kernel.sum(0) * places**2).sum()) == pytest.approx(1.5, rel=0.03)


def test_an_enlarged_grid_passes_through_its_values():
    grid = np.random.default_rng(3).random((4, 4), np.float32)
    np.testing.assert_allclose(enlarged(grid, 31, 31)[::10, ::10], grid, atol=1e-6)


def test_clouds_are_smooth_and_around_zero():
    field = clouds([np.random.default_rng(seed) for seed in range(20)], 64, 64)
    assert abs(field.mean()) < 0.15
    assert 0.2 < field.std() < 1
    assert np.abs(np.diff(field)).mean() < 0.3 * field.std()
