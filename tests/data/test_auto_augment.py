import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode

from stillroom.data.auto_augment import LEVELS, OPERATORS, POLICIES, draw_auto, strengths_of
from stillroom.data.image_operations import Turns, apply_in_turn

SIZE = (24, 20)
THEIRS = {"trivial": v2.TrivialAugmentWide(), "rand": v2.RandAugment()}
NAMES = {
    "identity": "Identity",
    "shear x": "ShearX",
    "shear y": "ShearY",
    "translate x": "TranslateX",
    "translate y": "TranslateY",
    "rotate": "Rotate",
    "brightness": "Brightness",
    "colour": "Color",
    "contrast": "Contrast",
    "sharpness": "Sharpness",
    "posterize": "Posterize",
    "solarize": "Solarize",
    "autocontrast": "AutoContrast",
    "equalize": "Equalize",
}
MOVES = {"shear x", "shear y", "translate x", "translate y", "rotate"}
ENHANCES = {"brightness", "colour", "contrast", "sharpness"}


def some_images(channels, count=8):
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(count, channels, 6, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=SIZE, mode="bilinear")
    return (20 + 190 * smooth + 20 * torch.rand(smooth.shape, generator=generator)).to(torch.uint8)


@pytest.mark.parametrize("policy", POLICIES)
def test_ranges_are_torchvision_s(policy):
    space = THEIRS[policy]._AUGMENTATION_SPACE
    assert [NAMES[operator.name] for operator in OPERATORS] == list(space)
    for operator, ours in zip(OPERATORS, strengths_of(POLICIES[policy], SIZE), strict=True):
        values, signed = space[NAMES[operator.name]]
        theirs = values(LEVELS, *SIZE)
        scale = 255 if operator.name == "solarize" else 1
        expected = torch.zeros(LEVELS) if theirs is None else theirs.float() * scale
        torch.testing.assert_close(torch.from_numpy(ours).float(), expected, atol=1e-4, rtol=1e-5)
        assert signed == (operator.low < 0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_operator_does_what_torchvision_s_does(name, channels):
    number = [operator.name for operator in OPERATORS].index(name)
    operator, images = OPERATORS[number], some_images(channels)
    magnitudes = torch.from_numpy(strengths_of(POLICIES["trivial"], SIZE)[number, [1, 4, 9, 14, 15, 20, 26, 30]])
    if operator.low < 0:
        magnitudes[::2] *= -1
    turns = Turns(torch.full((8, 1), number), (magnitudes + (name in ENHANCES))[:, None])
    made = apply_in_turn(images, OPERATORS, turns)
    theirs = THEIRS["trivial"]
    for image, view, magnitude in zip(images, made, magnitudes.tolist(), strict=True):
        expected = theirs._apply_image_or_video_transform(
            image, NAMES[name], magnitude / 255 if name == "solarize" else magnitude,
            interpolation=InterpolationMode.NEAREST, fill=theirs._fill,
        )  # fmt: skip
        off = (view.int() - expected.int()).abs()
        if name in MOVES:
            assert (off > 0).float().mean() < 0.02  # a place between two pixels may go to either
        else:
            assert off.max() <= 1  # rounding of a mixture
            assert off.float().mean() < (0.2 if channels == 1 else 0.02)


@pytest.mark.parametrize("policy", POLICIES)
def test_choices_cover_operators_levels_and_signs(policy):
    count = 20_000
    fixed = {"turns": 2, "level": 9} if policy == "rand" else {}
    turns = draw_auto(POLICIES[policy], 1, 2, torch.arange(count), SIZE, **fixed)
    assert turns.operation.shape == (count, 2 if policy == "rand" else 1)
    shares = torch.bincount(turns.operation.flatten(), minlength=14) / turns.operation.numel()
    torch.testing.assert_close(shares, torch.full((14,), 1 / 14), atol=0.006, rtol=0)
    table = strengths_of(POLICIES[policy], SIZE)
    for number, operator in enumerate(OPERATORS):
        offset = float(operator.name in ENHANCES)
        levels = table[number] if policy == "trivial" else table[number, 9:10]
        possible = {
            round(offset + sign * level, 9) for level in levels for sign in ((1, -1) if operator.low < 0 else (1,))
        }
        found = turns.strength[turns.operation == number]
        assert {round(value, 9) for value in found.tolist()} == possible
        if operator.low < 0:
            assert 0.4 < (found < offset).float().mean() < 0.6
    if policy == "rand":
        assert torch.corrcoef(turns.operation.T.double())[0, 1].abs() < 0.03


def test_choices_depend_on_seed_epoch_and_id_only():
    whole, ids = draw_auto(POLICIES["trivial"], 3, 7, torch.arange(50), SIZE), torch.tensor([41, 3, 17])
    part = draw_auto(POLICIES["trivial"], 3, 7, ids, SIZE)
    assert torch.equal(part.strength, whole.take(ids).strength)
    assert torch.equal(part.operation, whole.take(ids).operation)
    others = [draw_auto(POLICIES["trivial"], *key, torch.arange(50), SIZE) for key in ((4, 7), (3, 8))]
    assert not any(torch.equal(other.operation, whole.operation) for other in others)


def test_rotation_is_counter_clockwise():
    image = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    image[0, 0, 4, 8] = 255  # right of the centre
    number = [operator.name for operator in OPERATORS].index("rotate")
    made = apply_in_turn(image, OPERATORS, Turns(torch.tensor([[number]]), torch.tensor([[90.0]]).double()))
    assert made[0, 0, 0, 4] == 255
    assert math.isclose(float(made.float().sum()), 255)
