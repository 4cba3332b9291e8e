import numpy as np
import pytest
import torch

from stillroom.data.process_pool import map_in_processes
from stillroom.errors import InputError
from stillroom.probe.corruptions import CORRUPTIONS, corrupted
from stillroom.probe.frost import frost_pattern

RANDOM = set(CORRUPTIONS) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
every_corruption = pytest.mark.parametrize("corruption", CORRUPTIONS)


def soft_images(count: int = 6, side: int = 32, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Random images with as much fine detail as photographs have, uint8."""
    white = np.random.default_rng(seed).standard_normal((count, channels, side, side))
    away = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) + 1 / side
    soft = np.fft.irfft2(np.fft.rfft2(white) / away, (side, side))
    return torch.from_numpy((128 + 50 * soft / soft.std()).clip(0, 255).astype(np.uint8))


def errors(images: torch.Tensor, corruption: str) -> list[float]:
    """Mean squared error at each severity."""
    ids = torch.arange(len(images))
    return [
        float((corrupted(images, ids, corruption, s).float() - images.float()).square().mean()) for s in range(1, 6)
    ]


def test_the_fifteen_kinds_have_their_groups():
    assert len(CORRUPTIONS) == 15
    assert set(CORRUPTIONS.values()) == {"noise", "blur", "weather", "digital"}


@every_corruption
def test_a_result_depends_on_the_image_and_its_id_only(corruption):
    images, ids = soft_images(), torch.tensor([7, 3, 2**33, 0, 11, 5])
    whole = corrupted(images, ids, corruption, 4, seed=2)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    assert corrupted(images[order], ids[order], corruption, 4, seed=2).equal(whole[order])
    for place in range(len(images)):
        assert corrupted(images[place : place + 1], ids[place : place + 1], corruption, 4, seed=2)[0].equal(
            whole[place]
        )


def test_another_process_makes_the_same_images():
    def made(numbers: list[int]) -> bytes:
        frost_pattern.cache_clear()
        images, ids = soft_images()[numbers], torch.tensor(numbers)
        return torch.cat([corrupted(images, ids, name, 3) for name in CORRUPTIONS]).numpy().tobytes()

    one, other = map_in_processes(made, [[0, 1], [0, 1]], 2)
    assert one == other == made([0, 1])


@pytest.mark.parametrize("corruption", sorted(RANDOM))
def test_ids_and_seeds_draw_differently(corruption):
    images, ids = soft_images(1).expand(2, -1, -1, -1).contiguous(), torch.tensor([0, 1])
    made = corrupted(images, ids, corruption, 3)
    assert not made[0].equal(made[1])
    assert not corrupted(images, ids, corruption, 3, seed=1).equal(made)


@every_corruption
@pytest.mark.parametrize("side", [32, 96])
def test_each_severity_changes_images_more(corruption, side):
    found = errors(soft_images(12 if side == 32 else 4, side), corruption)
    assert found[0] > 1
    assert found == sorted(found)
    assert found[-1] > 1.2 * found[0]


@every_corruption
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 20, 9), (3, 9, 100)])
def test_images_of_any_size_keep_their_shape(corruption, shape):
    images = torch.randint(256, (2, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    for severity in (1, 5):
        made = corrupted(images, torch.arange(2), corruption, severity)
        assert made.shape == images.shape
        assert made.dtype == torch.uint8
    assert images.equal(before)


@every_corruption
def test_black_and_white_images_stay_in_range(corruption):
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16).contiguous()
    made = corrupted(images, torch.arange(2), corruption, 5)
    assert made[0].float().mean() < made[1].float().mean() + 1  # nothing wrapped around


def test_no_images_give_no_images():
    assert corrupted(soft_images()[:0], torch.arange(0), "fog", 1).shape == (0, 3, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"corruption": "rain"}, "'rain'"),
        ({"severity": 6}, "severity is 6; give 1 to 5"),
        ({"seed": -1}, "seed is -1"),
        ({"images": torch.zeros(2, 4, 16, 16, dtype=torch.uint8)}, r"1 or 3"),
        ({"images": torch.zeros(2, 3, 16, 16)}, "float32"),
        ({"images": torch.zeros(2, 3, 7, 16, dtype=torch.uint8)}, "7x16"),
    ],
)
def test_impossible_arguments_are_refused(arguments, told):
    usual = {"images": soft_images(2), "ids": torch.arange(2), "corruption": "fog", "severity": 1, "seed": 0}
    with pytest.raises(InputError, match=told):
        corrupted(**usual | arguments)
