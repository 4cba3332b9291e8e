from itertools import pairwise

import numpy as np
import pytest

from stillroom.data.validation_split import held_out, stratified_part

random = np.random.default_rng(0)
DIGESTS = random.integers(-(2**63), 2**63, 4000)
LABELS = np.arange(4000) % 4


def chosen(fraction, places=slice(None), seed=0):
    """The contents that are held out of some of the images."""
    labels, digests = LABELS[places], DIGESTS[places]
    return set(digests[held_out(labels, digests, fraction, seed)].tolist())


def test_about_the_fraction_is_held_out():
    for fraction in (0.05, 0.3, 0.9):
        held = held_out(LABELS, DIGESTS, fraction, 0)
        for label in range(4):
            assert held[label == LABELS].mean() == pytest.approx(fraction, abs=0.05)


def test_the_side_of_an_image_depends_on_nothing_but_its_content_and_the_seed():
    whole = chosen(0.3)
    shuffled = random.permutation(4000)
    assert chosen(0.3, shuffled) == whole
    for part in (slice(1000), slice(500, 4000), shuffled[:777]):
        assert chosen(0.3, part) == whole & set(DIGESTS[part].tolist())
    assert held_out(LABELS[::-1].copy(), DIGESTS, 0.3, 0).sum() == len(whole)  # other classes
    other = chosen(0.3, seed=1)
    assert len(whole & other) == pytest.approx(0.09 * 4000, abs=100)


def test_what_a_smaller_fraction_holds_out_a_larger_one_does_too():
    for count in (5, 8, 40, 4000):  # small classes are forced to have both sides
        held = [chosen(fraction, slice(count)) for fraction in (0.01, 0.1, 0.3, 0.6, 0.99)]
        assert all(less <= more for less, more in pairwise(held))


@pytest.mark.parametrize("fraction", [0.0001, 0.9999])
def test_every_class_has_an_image_on_both_sides(fraction):
    labels = np.array([0, 1, 1, 0, 2, 2, 2])
    held = held_out(labels, DIGESTS[:7], fraction, 0)
    assert [len(set(held[labels == label])) for label in range(3)] == [2, 2, 2]
    assert not held_out(np.array([0, 0, 1]), DIGESTS[:3], fraction, 0)[2]  # one image is for training


def test_copies_lie_on_one_side():
    twice = np.concatenate([DIGESTS, DIGESTS])
    held = held_out(np.concatenate([LABELS, LABELS]), twice, 0.3, 0)
    assert not set(twice[held]) & set(twice[~held])


def test_no_images_and_images_that_are_all_alike():
    assert held_out(LABELS[:0], DIGESTS[:0], 0.1, 0).tolist() == []
    alike = held_out(np.zeros(9, dtype=np.int64), np.full(9, 7), 0.1, 0)
    assert 1 <= alike.sum() <= 8


def test_images_without_a_label_are_held_out_only_where_none_has_one():
    some = np.where(DIGESTS % 2 == 0, LABELS, -1)
    held = held_out(some, DIGESTS, 0.3, 0)
    assert not held[some < 0].any()
    assert (held == (held_out(LABELS, DIGESTS, 0.3, 0) & (some >= 0))).all()
    few = np.full(5, -1)
    assert 0 < held_out(few, DIGESTS[:5], 0.001, 0).sum() < 5
    assert held_out(np.full(4000, -1), DIGESTS, 0.3, 0).mean() == pytest.approx(0.3, abs=0.05)


def test_a_stratified_part_has_its_fraction_of_each_class_and_does_not_follow_the_order():
    labels = np.repeat(np.arange(4), [50, 20, 2, 1])
    digests = np.random.default_rng(0).integers(-(2**62), 2**62, len(labels))
    chosen = stratified_part(labels, digests, 0.2)
    assert np.bincount(labels[chosen], minlength=4).tolist() == [10, 4, 1, 0]
    order = np.random.default_rng(1).permutation(len(labels))
    assert (stratified_part(labels[order], digests[order], 0.2) == chosen[order]).all()
    larger = stratified_part(labels, digests, 0.5)
    assert (larger >= chosen).all()
    assert not (held_out(labels, digests, 0.2, 0)[:70] == chosen[:70]).all()


def test_copies_of_an_image_are_on_one_side_of_a_stratified_part():
    labels, digests = np.zeros(12, dtype=np.int64), np.repeat(np.arange(4), 3)
    for fraction in (0.1, 0.3, 0.5, 0.9):
        sides = stratified_part(labels, digests, fraction).reshape(4, 3)
        assert (sides.all(1) | ~sides.any(1)).all()
        assert not sides.all()


def test_a_stratified_part_of_images_without_labels_takes_them_as_one_class():
    digests = np.random.default_rng(0).integers(-(2**62), 2**62, 40)
    labels = np.full(40, -1)
    assert stratified_part(labels, digests, 0.25).sum() == 10
    labels[:20] = 0
    assert np.flatnonzero(stratified_part(labels, digests, 0.25)).max() < 20
