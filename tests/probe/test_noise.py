import numpy as np
import pytest

from stillroom.probe.corruptions import generator
from stillroom.probe.noise import gaussian_noise, impulse_noise, shot_noise


def grey(side: int) -> np.ndarray:
    return np.full((4, 3, side, side), 0.5, np.float32)


def draws() -> list[np.random.Generator]:
    return [generator(0, number, "noise", 1) for number in range(4)]


@pytest.mark.parametrize(("side", "deviation"), [(32, 0.08), (128, 0.16), (8, 0.04)])
def test_gaussian_noise_grows_with_the_square_root_of_the_side(side, deviation):
    found = gaussian_noise(grey(side), draws(), 3) - 0.5
    assert found.std() == pytest.approx(deviation, rel=0.1)
    assert abs(found.mean()) < 0.01


def test_shot_noise_is_stronger_where_it_is_light():
    images = grey(64)
    images[:, :, :32] = 0.05
    found = shot_noise(images, draws(), 3) - images
    assert found[:, :, 32:].std() == pytest.approx(found[:, :, :32].std() * 10**0.5, rel=0.1)


def test_impulses_are_black_and_white_in_equal_parts():
    found = impulse_noise(grey(32), draws(), 5)
    assert set(np.unique(found)) == {0.0, 0.5, 1.0}
    assert (found == 0).mean() == pytest.approx(0.05, rel=0.2)
    assert (found == 1).mean() == pytest.approx(0.05, rel=0.2)
