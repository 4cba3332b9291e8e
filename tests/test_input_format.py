import pytest
import torch

from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform, resized


def pixels(size: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def test_pixels_are_normalised_channel_by_channel() -> None:
    given = pixels()
    expected = (given / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert torch.allclose(InputTransform(InputFormat(MEAN, STD))(given), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_memory_format_does_not_change_a_bit(channels: int, kind: torch.dtype) -> None:
    wanted = InputFormat(MEAN[:channels], STD[:channels])
    given = pixels()[:, :channels].to(kind)
    plain = InputTransform(wanted)(given)
    for source in (given, given.to(memory_format=torch.channels_last)):
        last = InputTransform(wanted, layout=torch.channels_last)(source)
        assert torch.equal(last, plain)
        assert last.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_the_given_pixels_stay_as_they_are(kind: torch.dtype) -> None:
    given = pixels().to(kind)
    before = given.clone()
    InputTransform(InputFormat(MEAN, STD))(given)
    assert torch.equal(given, before)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_images_are_resized_to_the_size_of_the_format(interpolation) -> None:
    wanted = InputFormat(MEAN, STD, (12, 16), interpolation)
    assert InputTransform(wanted)(pixels()).shape == (2, 3, 12, 16)
    assert torch.allclose(resized(torch.full((1, 3, 8, 8), 200.0), wanted), torch.tensor(200.0))


def test_shrinking_averages_instead_of_dropping_pixels() -> None:
    board = (torch.arange(64).view(8, 8) + torch.arange(8)[:, None]) % 2 * 255.0
    small = resized(board.expand(1, 3, 8, 8), InputFormat(MEAN, STD, (2, 2), "bilinear"))
    assert float((small - 127.5).abs().max()) < 40


def test_a_bicubic_overshoot_stays_in_the_range_of_pixels() -> None:
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 255
    large = resized(edge, InputFormat(MEAN, STD, (32, 32), "bicubic"))
    assert (float(large.min()), float(large.max())) == (0.0, 255.0)


def test_a_size_that_fits_costs_nothing() -> None:
    given = pixels()
    assert resized(given, InputFormat(MEAN, STD, (8, 8))) is given


@pytest.mark.parametrize(
    ("mean", "std", "size", "message"),
    [
        ((0.5,), (0.5, 0.5), None, "mean has 1 values and std 2"),
        ((0.5,), (0.0,), None, "std is"),
        ((0.5,), (0.5,), (0, 8), "size is"),
    ],
)
def test_an_impossible_format_is_refused(mean, std, size, message) -> None:
    with pytest.raises(InputError, match=message):
        InputFormat(mean, std, size)


def test_a_format_names_its_parts() -> None:
    shown = str(InputFormat(MEAN, STD, (128, 160), "bilinear"))
    assert shown == "160x128 pixels (bilinear), mean 0.4, 0.5, 0.6, std 0.2, 0.25, 0.3"


def test_the_given_pixels_are_not_changed():
    pixels = torch.rand(2, 3, 8, 8) * 255
    before = pixels.clone()
    InputTransform(InputFormat((0.5,) * 3, (0.25,) * 3))(pixels)
    assert torch.equal(pixels, before)
