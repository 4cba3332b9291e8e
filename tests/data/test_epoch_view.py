import pytest
import torch

from stillroom.data.augment import Augment, apply_augment, draw_choices
from stillroom.data.auto_augment import OPERATORS, POLICIES, draw_auto
from stillroom.data.colour_jitter import JITTER, draw_jitter
from stillroom.data.epoch_view import EpochView
from stillroom.data.image_operations import apply_in_turn
from stillroom.data.random_erasing import draw_erasing, erase
from stillroom.data.random_table import Purpose

SIZE, MEAN = (14, 12), (0.5, 0.4, 0.3)
ALL = {"colour_jitter": 0.4, "auto_augment": "rand", "erase": 0.5}
SETTINGS = [
    Augment(),
    Augment(pad=2, **ALL),
    Augment(pad=0, flip=False, min_scale=0.3, **ALL),
    Augment(rotate=20, colour_jitter=0.3),
    Augment(auto_augment="trivial"),
    Augment(rotate=20, erase=0.9),
]


def some_images(count=30):
    return torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def view_of(augment, ids, epoch=2, strong=False):
    return EpochView(augment, 5, epoch, ids, SIZE, mean=MEAN, strong=strong)


def made(augment, images, epoch=2, strong=False):
    places = torch.arange(len(images))
    return view_of(augment, places, epoch, strong)(images, places, places)


@pytest.mark.parametrize("augment", SETTINGS)
def test_view_depends_on_seed_epoch_and_id_only(augment):
    images, ids = some_images(), torch.arange(30)
    whole = made(augment, images)
    chosen = torch.randperm(30, generator=torch.Generator().manual_seed(2))[:20]
    view = view_of(augment, ids)
    parts = [view(images[part], part, part) for part in chosen.split(7)]
    torch.testing.assert_close(torch.cat(parts), whole[chosen], atol=0, rtol=0)
    some = view_of(augment, ids[chosen])  # a subset of the images
    places = torch.arange(20)
    torch.testing.assert_close(some(images[chosen], places, places), whole[chosen], atol=0, rtol=0)
    assert not torch.equal(whole, made(augment, images, epoch=3))
    assert not torch.equal(whole, made(augment, images, strong=True))


def test_order_is_the_published_one():
    images, ids = some_images(), torch.arange(30)
    augment = Augment(pad=2, **ALL)
    expected = apply_augment(images, augment, draw_choices(augment, 5, 2, ids, SIZE))
    expected = apply_in_turn(expected, JITTER, draw_jitter(0.4, 5, 2, ids))
    expected = apply_in_turn(expected, OPERATORS, draw_auto(POLICIES["rand"], 5, 2, ids, SIZE, turns=2, level=9))
    expected = erase(expected, draw_erasing(0.5, 5, 2, ids, SIZE), MEAN)
    assert torch.equal(made(augment, images), expected)


@pytest.mark.parametrize("strong", [False, True])
def test_switching_one_change_on_leaves_the_others(strong):
    """Without the new changes, views are those of the geometry alone."""
    images, ids = some_images(), torch.arange(30)
    purpose = Purpose.STRONG_AUGMENT if strong else Purpose.AUGMENT
    plain = apply_augment(images, Augment(), draw_choices(Augment(), 5, 2, ids, SIZE, purpose))
    assert torch.equal(made(Augment(), images, strong=strong), plain)
    erased = made(Augment(erase=0.5), images, strong=strong)
    untouched = (erased == plain).flatten(1).all(1)
    assert 5 < untouched.sum() < 25
    jittered = made(Augment(erase=0.5, colour_jitter=0.4), images, strong=strong)
    colour = torch.tensor([round(255 * value) for value in MEAN], dtype=torch.uint8).view(1, 3, 1, 1)
    assert torch.equal((jittered == colour).all(1).flatten(1).any(1), ~untouched)


def test_every_purpose_has_its_own_numbers():
    ids = torch.arange(50)
    weak, strong = draw_jitter(0.4, 0, 0, ids), draw_jitter(0.4, 0, 0, ids, Purpose.STRONG_JITTER)
    assert not torch.equal(weak.strength, strong.strength)
