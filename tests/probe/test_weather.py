import numpy as np
import pytest

from stillroom.probe.corruptions import generator
from stillroom.probe.weather import fog, frost, snow


def draws(count: int) -> list[np.random.Generator]:
    return [generator(0, number, "weather", 1) for number in range(count)]


BLACK = np.zeros((3, 3, 48, 48), np.float32)


def test_snow_covers_more_of_the_image_at_higher_severities():
    covered = [float((snow(BLACK, draws(3), severity) > 0.6).mean()) for severity in (1, 3, 5)]
    assert covered == sorted(covered)
    assert covered[-1] > 0.02
    assert float((snow(BLACK, draws(3), 5) > 0.6).mean()) < 0.6


def test_fog_is_grey_and_uneven():
    found = fog(BLACK, draws(3), 3)
    np.testing.assert_allclose(found[:, 0], found[:, 2])
    assert (found.std(axis=(1, 2, 3)) > 0.02).all()
    assert found.max() <= 0.88


def test_frost_is_bluish_on_dark_ground():
    red, _, blue = frost(BLACK, draws(3), 3, seed=0).mean(axis=(0, 2, 3))
    assert blue > 1.1 * red > 0.02


@pytest.mark.parametrize("change", [snow, fog])
def test_one_channel_is_changed_as_three_equal_ones(change):
    three = np.random.default_rng(0).uniform(0, 1, (2, 1, 32, 32)).astype(np.float32).repeat(3, axis=1)
    np.testing.assert_allclose(change(three, draws(2), 2)[:, :1], change(three[:, :1], draws(2), 2), atol=1e-6)
