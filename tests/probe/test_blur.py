import numpy as np
import pytest

from stillroom.probe.blur import defocus_blur, glass_blur, motion_blur, zoom_blur
from stillroom.probe.corruptions import generator


def draws(count: int) -> list[np.random.Generator]:
    return [generator(0, number, "blur", 1) for number in range(count)]


def point(side: int) -> np.ndarray:
    image = np.zeros((1, 1, side, side), np.float32)
    image[..., side // 2, side // 2] = 1
    return image


@pytest.mark.parametrize("blur", [defocus_blur, glass_blur, motion_blur, zoom_blur])
def test_an_even_image_stays_as_it_is(blur):
    images = np.full((2, 3, 24, 17), 0.4, np.float32)
    np.testing.assert_allclose(blur(images, draws(2), 5), images, atol=1e-5)


def test_defocus_spreads_a_point_over_a_disc_of_the_stated_size():
    spread = defocus_blur(point(101), draws(1), 5)[0, 0]
    assert spread.sum() == pytest.approx(1, abs=1e-4)
    rows, columns = np.nonzero(spread > 1e-4)
    assert np.hypot(rows - 50, columns - 50).max() == pytest.approx(0.07 * 101, abs=1)


def test_motion_spreads_a_point_along_a_line_of_the_stated_length():
    spread = motion_blur(point(101), draws(1), 5)[0, 0]
    rows, columns = (places - 50 for places in np.nonzero(spread > 1e-3))
    away = np.hypot(rows, columns)
    assert away.max() == pytest.approx(0.28 * 101 / 2, abs=1.5)
    far = away > 5
    angles = np.arctan2(rows, columns)[far] % np.pi
    assert np.ptp(np.unwrap(np.sort(angles), period=np.pi)) < 0.5


def test_zoom_blurs_the_edge_and_not_the_middle():
    stripes = np.tile(np.array([0, 1], np.float32), 32)[None, None, None].repeat(64, axis=2)
    contrast = np.abs(np.diff(zoom_blur(stripes, draws(1), 3)[0, 0, 32]))
    assert contrast[28:36].max() > 4 * contrast[:8].max()


def test_glass_keeps_pixels_near_their_place():
    step = np.zeros((1, 1, 100, 100), np.float32)
    step[..., 50:] = 1
    found = glass_blur(step, draws(1), 1)[0, 0]
    np.testing.assert_allclose(found[:, :45], 0, atol=1e-5)
    np.testing.assert_allclose(found[:, 55:], 1, atol=1e-5)
    assert found[:, 48:52].std(axis=0).min() > 0.1  # rows differ at the edge
