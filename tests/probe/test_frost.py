import numpy as np

from stillroom.probe.corruptions import generator
from stillroom.probe.frost import PATTERN_SIDES, frost_pattern, windows


def test_the_pattern_is_partly_clear_and_partly_iced():
    pattern = frost_pattern(0, 16)
    assert pattern.shape == (16 * PATTERN_SIDES,) * 2
    assert pattern.min() < 0.1
    assert pattern.max() > 0.6


def test_windows_of_long_images_have_no_seams():
    pattern = np.add.outer(np.arange(32.0), np.arange(32.0)).astype(np.float32)
    images = np.zeros((20, 1, 8, 100), np.float32)
    found = windows(pattern, images, [generator(0, number, "frost", 1) for number in range(20)])
    assert found.shape == (20, 8, 100)
    assert np.abs(np.diff(found, axis=2)).max() == 1  # from the pattern into its mirror image and on
