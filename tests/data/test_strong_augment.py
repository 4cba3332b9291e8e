import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from stillroom.data.random_table import Purpose, random_table
from stillroom.data.strong_augment import OPERATIONS, TURNS, StrongChoices, apply_strong, draw_strong

NAMES = [operation.name for operation in OPERATIONS]
RANGES = {
    "autocontrast": (0, 1),
    "brightness": (0.05, 0.95),
    "colour": (0.05, 0.95),
    "contrast": (0.05, 0.95),
    "equalize": (0, 1),
    "identity": (0, 1),
    "posterize": (4, 8),
    "rotate": (-30, 30),
    "sharpness": (0.05, 0.95),
    "shear x": (-0.3, 0.3),
    "shear y": (-0.3, 0.3),
    "solarize": (0, 256),
    "translate x": (-0.3, 0.3),
    "translate y": (-0.3, 0.3),
}
UNCHANGED_ON_GREY = {"colour", "identity"}


def affine(image, *entries):
    return image.transform(image.size, Image.Transform.AFFINE, entries)


def reference(name, image, strength):
    """What PIL makes of one image."""
    width, height = image.size
    return {
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(strength),
        "colour": lambda: ImageEnhance.Color(image).enhance(strength),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(strength),
        "equalize": lambda: ImageOps.equalize(image),
        "identity": lambda: image,
        "posterize": lambda: ImageOps.posterize(image, int(strength)),
        "rotate": lambda: image.rotate(strength),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(strength),
        "shear x": lambda: affine(image, 1, strength, 0, 0, 1, 0),
        "shear y": lambda: affine(image, 1, 0, 0, strength, 1, 0),
        "solarize": lambda: ImageOps.solarize(image, strength),
        "translate x": lambda: affine(image, 1, 0, strength * width, 0, 1, 0),
        "translate y": lambda: affine(image, 1, 0, 0, 0, 1, strength * height),
    }[name]()


def drawn(operations, strengths, boxes=None):
    count = len(operations)
    boxes = torch.zeros(count, 4, dtype=torch.int64) if boxes is None else torch.tensor(boxes)
    return StrongChoices(torch.tensor(operations), torch.tensor(strengths, dtype=torch.float64), boxes)


def only(name, strengths):
    """One operation, then none, and nothing cut out."""
    pair = [NAMES.index(name), NAMES.index("identity")]
    return drawn([pair] * len(strengths), [[strength, 0.0] for strength in strengths])


@pytest.fixture
def some_images():
    """Makes six different images, not square, without the darkest and brightest values."""

    def make(channels):
        generator = torch.Generator().manual_seed(5)
        coarse = torch.rand(6, channels, 6, 5, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(24, 20), mode="bilinear")
        return (30 + 170 * smooth + 20 * torch.rand(smooth.shape, generator=generator)).to(torch.uint8)

    return make


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_operation_does_what_pil_does(some_images, name, channels):
    images = some_images(channels)
    low, high = RANGES[name]
    strengths = [low + (high - low) * share for share in (0.02, 0.2, 0.41, 0.63, 0.77, 0.98)]
    made = apply_strong(images, only(name, strengths))
    wanted = []
    for image, strength in zip(images, strengths, strict=True):
        array = image.permute(1, 2, 0).numpy().squeeze()
        result = np.asarray(reference(name, Image.fromarray(array), strength))
        wanted.append(torch.from_numpy(result.copy()).view(24, 20, channels).permute(2, 0, 1))
    off = (made.int() - torch.stack(wanted).int()).abs()
    if name in {"rotate", "shear x", "shear y", "translate x", "translate y"}:
        assert (off > 0).float().mean() < 0.01  # a place between two pixels may go to either
    else:
        assert off.max() <= 1
    changed = (made != images).flatten(1).any(1)
    expected = name != "identity" and not (channels == 1 and name in UNCHANGED_ON_GREY)
    assert changed[:-1].all() if expected else not changed.any()


def test_operations_and_ranges_are_those_of_fixmatch():
    assert {operation.name: (operation.low, operation.high) for operation in OPERATIONS} == RANGES


def test_operations_are_applied_in_turn(some_images):
    images = some_images(3)[:2]
    contrast, move = NAMES.index("autocontrast"), NAMES.index("translate x")
    made = apply_strong(images, drawn([[contrast, move], [move, contrast]], [[0.0, 0.25], [0.25, 0.0]]))

    def alone(name, strength, images):
        return apply_strong(images, only(name, [strength] * 2))

    first = alone("translate x", 0.25, alone("autocontrast", 0.0, images))
    other = alone("autocontrast", 0.0, alone("translate x", 0.25, images))
    assert torch.equal(made, torch.stack([first[0], other[1]]))
    assert not torch.equal(first[0], other[0])  # the black border is there before the contrast, or after


@pytest.mark.parametrize(("channels", "colour"), [(1, (128,)), (3, (125, 123, 114))])
@pytest.mark.parametrize(
    ("box", "area"),
    [([3, 4, 8, 9], 25), ([-3, 17, 3, 23], 9), ([20, -2, 28, 6], 24), ([5, 5, 5, 5], 0)],
)
def test_cut_out_square_is_filled_and_clipped(some_images, channels, colour, box, area):
    images = some_images(channels)[:1]
    same = NAMES.index("identity")
    made = apply_strong(images, drawn([[same, same]], [[0.0, 0.0]], [box]))
    top, left, bottom, right = (max(edge, 0) for edge in box)
    fill = torch.tensor(colour, dtype=torch.uint8).view(-1, 1, 1)
    assert (made[0, :, top:bottom, left:right] == fill).all()
    outside = torch.ones(24, 20, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    assert int((~outside).sum()) == area
    assert torch.equal(made[0, :, outside], images[0, :, outside])


def test_choices_cover_their_ranges():
    count = 28_000
    choices = draw_strong(1, 2, torch.arange(count), (24, 20))
    shares = torch.bincount(choices.operation.flatten(), minlength=len(NAMES)) / (TURNS * count)
    torch.testing.assert_close(shares, torch.full((14,), 1 / 14), atol=0.005, rtol=0)
    assert torch.corrcoef(choices.operation.T.double())[0, 1].abs() < 0.02  # with replacement: independent
    for number, (low, high) in enumerate(RANGES.values()):
        strengths = choices.strength[choices.operation == number]
        assert low <= strengths.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < strengths.max() <= high
        assert abs(strengths.mean() - (low + high) / 2) < 0.03 * (high - low)
    top, left, bottom, right = choices.box.unbind(1)
    assert torch.equal(bottom - top, right - left)
    sides = torch.bincount(right - left) / count
    torch.testing.assert_close(sides, torch.full((11,), 1 / 11), atol=0.01, rtol=0)  # 0 to half of 20
    for centre, length in (((top + bottom) / 2, 24), ((left + right) / 2, 20)):
        assert centre.min() >= -0.5
        assert centre.max() <= length + 0.5
        assert abs(centre.mean() - length / 2) < 0.15


def test_choices_depend_on_seed_epoch_and_id_only():
    whole = draw_strong(3, 7, torch.arange(50), (12, 10))
    ids = torch.tensor([41, 3, 17])
    part, taken = draw_strong(3, 7, ids, (12, 10)), whole.take(ids)
    for name in StrongChoices.__slots__:
        assert torch.equal(getattr(part, name), getattr(taken, name))
    for seed, epoch in ((4, 7), (3, 8)):
        assert not torch.equal(whole.strength, draw_strong(seed, epoch, torch.arange(50), (12, 10)).strength)


def test_purposes_keep_their_numbers_and_their_tables_differ():
    assert {purpose.name: purpose.value for purpose in Purpose} == {
        "ORDER": 0,
        "AUGMENT": 1,
        "STRONG_AUGMENT": 2,
        "STRONG": 3,
        "JITTER": 4,
        "AUTO": 5,
        "ERASE": 6,
        "STRONG_JITTER": 7,
        "STRONG_AUTO": 8,
        "STRONG_ERASE": 9,
        "MIX": 10,
        "CHOICE": 11,
        "CLASS_CHOICE": 12,
        "REGIONS": 13,
    }
    assert len({random_table(0, 0, purpose, 1, 1).item() for purpose in Purpose}) == len(Purpose)


def test_input_stays_as_it_is_and_floats_are_rounded(some_images):
    images = some_images(3)
    before = images.clone()
    choices = draw_strong(0, 0, torch.arange(6), (24, 20))
    made = apply_strong(images, choices)
    assert torch.equal(images, before)
    assert made.dtype == torch.uint8
    assert not torch.equal(made, images)
    assert torch.equal(apply_strong(images.float() + 0.3, choices), made)


def test_image_does_not_depend_on_its_neighbours(some_images):
    images = some_images(3)
    choices = draw_strong(0, 0, torch.arange(6) % 3, (24, 20))
    together = apply_strong(images, choices)
    for place in range(6):
        assert torch.equal(apply_strong(images[[place]], choices.take(torch.tensor([place]))), together[[place]])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_makes_the_same_views(some_images):
    images = some_images(3).repeat(40, 1, 1, 1)
    choices = draw_strong(0, 0, torch.arange(len(images)), (24, 20))
    assert torch.equal(apply_strong(images.cuda(), choices).cpu(), apply_strong(images, choices))
