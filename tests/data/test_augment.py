import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from stillroom.data.augment import Augment, Choices, apply_augment, draw_choices
from stillroom.errors import InputError

SIZE = (12, 10)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (40, 3, *SIZE), dtype=torch.uint8, generator=generator)


def smooth(count):
    """Images without edges between pixels, for comparing two ways to interpolate."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * 255
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic").clamp(0, 255).to(torch.uint8)


def choices_for(augment, count, size=SIZE, epoch=0):
    return draw_choices(augment, 0, epoch, torch.arange(count), size)


def test_cut_equals_slow_reference(images):
    augment = Augment(pad=3)
    drawn = choices_for(augment, len(images))
    result = apply_augment(images, augment, drawn)
    for index, image in enumerate(images.numpy()):
        padded = np.zeros((3, SIZE[0] + 6, SIZE[1] + 6), dtype=np.uint8)
        padded[:, 3:-3, 3:-3] = image
        top, left = int(drawn.top[index]), int(drawn.left[index])
        expected = padded[:, top : top + SIZE[0], left : left + SIZE[1]]
        if drawn.mirror[index]:
            expected = expected[:, :, ::-1]
        np.testing.assert_array_equal(result[index].numpy(), expected)
    assert result.dtype == torch.uint8


def test_offsets_and_flips_take_every_value():
    drawn = choices_for(Augment(pad=2), 2000)
    assert sorted(set(drawn.top.tolist())) == sorted(set(drawn.left.tolist())) == [0, 1, 2, 3, 4]
    assert 0.45 < drawn.mirror.float().mean() < 0.55
    assert abs(np.corrcoef(drawn.top, drawn.left)[0, 1]) < 0.1


def test_nothing_on_is_the_identity(images):
    augment = Augment(pad=0, flip=False)
    assert torch.equal(apply_augment(images, augment, choices_for(augment, len(images))), images)


def test_flip_only(images):
    augment = Augment(pad=0)
    drawn = choices_for(augment, len(images))
    expected = torch.where(drawn.mirror[:, None, None, None], images.flip(3), images)
    assert torch.equal(apply_augment(images, augment, drawn), expected)


def test_rotation_equals_torchvision():
    images = smooth(20)
    augment = Augment(pad=0, flip=False, rotate=25)
    drawn = choices_for(augment, 20, (32, 32))
    result = apply_augment(images, augment, drawn)
    for index, image in enumerate(images.float()):
        angle = math.degrees(float(drawn.angle[index]))
        expected = tv.rotate(image, angle, InterpolationMode.BILINEAR)
        assert (result[index] - expected).abs().max() < 0.5
    assert drawn.angle.abs().max() > math.radians(15)
    assert drawn.angle.min() < 0 < drawn.angle.max()


def test_resized_crop_equals_torchvision(images):
    augment = Augment(pad=0, flip=False, min_scale=0.2)
    drawn = choices_for(augment, len(images))
    result = apply_augment(images, augment, drawn)
    for index, image in enumerate(images.float()):
        top, left, height, width = (int(edge) for edge in drawn.box[index])
        expected = tv.resized_crop(image, top, left, height, width, list(SIZE), antialias=False)
        torch.testing.assert_close(result[index], expected, atol=0.01, rtol=0)


def test_resampling_path_cuts_and_mirrors_as_the_fast_path_does(images):
    augment = Augment(pad=3)
    drawn = choices_for(augment, len(images))
    slow = apply_augment(images, Augment(pad=3, rotate=1e-9), drawn)
    torch.testing.assert_close(slow, apply_augment(images, augment, drawn).float(), atol=0.01, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_resized_crops_keep_their_bounds(size):
    box = choices_for(Augment(min_scale=0.3), 3000, size).box
    top, left, height, width = box.unbind(1)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= size[0]).all()
    assert (left + width <= size[1]).all()
    area = height * width / (size[0] * size[1])
    assert 0.27 < area.min() < 0.33
    assert area.max() > 0.95
    assert 0.6 < area.mean() < 0.7
    if size == (32, 32):
        assert 0.70 < (width / height).min() < (width / height).max() < 1.42


def test_switching_one_change_on_leaves_the_others():
    plain, rich = choices_for(Augment(), 50), choices_for(Augment(rotate=20, min_scale=0.5), 50)
    assert torch.equal(plain.top, rich.top)
    assert torch.equal(plain.mirror, rich.mirror)


def test_choices_are_taken_by_position():
    drawn = choices_for(Augment(), 10)
    part = drawn.take(torch.tensor([4, 2]))
    assert isinstance(part, Choices)
    assert part.left.tolist() == [int(drawn.left[4]), int(drawn.left[2])]


@pytest.mark.parametrize(
    "bad", [{"pad": -1}, {"rotate": -1.0}, {"rotate": 181.0}, {"min_scale": 0.0}, {"min_scale": 1.1}]
)
def test_arguments_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Augment(**bad)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_flip_alone_mirrors_the_drawn_images_and_leaves_the_given_ones(images, layout):
    given = images.to(memory_format=layout)
    choices = draw_choices(Augment(pad=0), 0, 1, torch.arange(len(images)), SIZE)
    assert 0 < int(choices.mirror.sum()) < len(images)
    expected = torch.where(choices.mirror[:, None, None, None], images.flip(3), images)
    assert torch.equal(apply_augment(given, Augment(pad=0), choices), expected)
    assert torch.equal(given, images)
