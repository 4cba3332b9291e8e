from dataclasses import replace

import numpy as np
import pytest
import torch

from stillroom.data import Augment, Loader
from stillroom.data.mixing import draw_mixes, symmetric_beta
from stillroom.errors import InputError
from stillroom.input_format import InputFormat

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
PLAIN = Augment(pad=2)
KINDS = {
    "mixup": {"mixup": 0.8},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.8, "cutmix": 1.0},
    "some": {"mixup": 0.4, "cutmix": 1.0, "mix_probability": 0.5},
}


def mixed(images, augment=None, kind="both", epoch=3, start_step=0, **options):
    settings = {"batch_size": 16, "input_format": InputFormat(MEAN, STD), "shuffle": True, "strong": True} | options
    augment = replace(augment or PLAIN, **KINDS.get(kind, {}))
    return list(Loader(images, augment=augment, **settings).epoch(epoch, start_step))


def rows(batches):
    """What each position of the epoch shows, by the id of its first image."""
    return {
        int(batch.ids[row]): (
            batch.images[row], batch.strong[row], batch.pixels[row], batch.strong_pixels[row],
            batch.mixture.labels[row], batch.mixture.fraction[row],
        )
        for batch in batches
        for row in range(len(batch.ids))
    }  # fmt: skip


def assert_same(some, others):
    assert others
    for sample, values in others.items():
        for one, other in zip(some[sample], values, strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_mixed_with_its_neighbour_in_its_own_view(small_set, kind):
    """An explicit reference, image by image, from the epoch's unmixed views."""
    augment = replace(PLAIN, **KINDS[kind])
    plain = mixed(small_set, kind="", batch_size=103)[0]
    batch = mixed(small_set, kind=kind, batch_size=103)[0]
    mixes = draw_mixes(augment, 0, 3, plain.ids, (12, 10))
    seen = set()
    for p in range(103):
        q, fraction = p ^ 1, float(batch.mixture.fraction[p])
        if q == 103 or fraction == 1:
            seen.add("single")
            q, fraction = p, 1.0
        for views, result in ((plain.pixels, batch.pixels), (plain.strong_pixels, batch.strong_pixels)):
            first, second = views[p].double(), views[q].double()
            top, left, bottom, right = mixes.boxes[p].tolist()
            if bottom > top:
                seen.add("cutmix")
                expected = first.clone()
                expected[:, top:bottom, left:right] = second[:, top:bottom, left:right]
                assert fraction == pytest.approx(1 - (bottom - top) * (right - left) / 120)
            else:
                seen.add("mixup" if fraction < 1 else "single")
                expected = fraction * first + (1 - fraction) * second
            torch.testing.assert_close(result[p].double(), expected, atol=1e-4, rtol=1e-6)
        assert batch.mixture.labels[p] == plain.labels[q]
    assert torch.equal(batch.labels, plain.labels)
    assert seen == {"single"} | ({"mixup"} if augment.mixup else set()) | ({"cutmix"} if augment.cutmix else set())
    unmixed = int((batch.mixture.fraction == 1).sum())
    assert 30 < unmixed < 75 if kind == "some" else unmixed < 25


@pytest.mark.parametrize("kind", KINDS)
def test_a_mixed_image_does_not_depend_on_batches_processes_or_steps(small_set, kind):
    reference = rows(mixed(small_set, kind=kind, batch_size=103))
    assert len(reference) == 103
    for batch_size in (32, 17):  # an odd one separates neighbours
        assert_same(reference, rows(mixed(small_set, kind=kind, batch_size=batch_size)))
    assert_same(reference, rows(mixed(small_set, kind=kind, batch_size=27, start_step=2)))
    for world_size, batch_size in ((2, 40), (3, 40)):
        parts = [
            mixed(small_set, kind=kind, batch_size=batch_size, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        assert_same(reference, rows(batch for part in parts for batch in part))


def test_views_with_fractions_of_pixels_are_mixed_alike_in_every_batch(small_set):
    augment = Augment(pad=2, rotate=15, min_scale=0.5)
    assert_same(*(rows(mixed(small_set, augment, batch_size=batch_size)) for batch_size in (103, 33)))


def test_repeated_views_repeat_mixtures(small_set):
    assert_same(rows(mixed(small_set, epoch=1)), rows(mixed(small_set, epoch=4, repeat_views=3)))
    one, two = (mixed(small_set, epoch=epoch)[0].mixture.fraction for epoch in (1, 2))
    assert not torch.equal(one, two)


def test_cutmix_alone_keeps_bytes(small_set):
    assert mixed(small_set, kind="cutmix")[0].pixels.dtype == torch.uint8
    assert mixed(small_set, kind="both")[0].pixels.dtype == torch.float32


def test_only_what_a_batch_lacks_is_read(small_set):
    mixes = draw_mixes(Augment(mixup=1.0), 0, 1, small_set.ids, (12, 10))
    assert mixes.reads(slice(16, 32))[0] == slice(16, 32)
    read, second = mixes.reads(slice(15, 30))
    assert read.tolist() == [*range(15, 30), 14]
    assert read[second].tolist() == [position ^ 1 for position in range(15, 30)]
    read, second = mixes.reads(slice(100, 103, 2))
    assert read.tolist() == [100, 102, 101]
    assert read[second].tolist() == [101, 102]
    rarely = draw_mixes(Augment(mixup=1.0, mix_probability=1e-9), 0, 1, small_set.ids, (12, 10))
    assert rarely.reads(slice(1, 99, 2))[0] == slice(1, 99, 2)


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 4.0])
def test_fractions_have_the_beta_distribution(alpha):
    generator = np.random.default_rng(0)
    found = symmetric_beta(np.full(40_000, alpha), generator.random(40_000), generator.random(40_000))
    wanted = np.random.default_rng(1).beta(alpha, alpha, 40_000)
    levels = np.linspace(0.01, 0.99, 50)
    np.testing.assert_allclose(np.quantile(found, levels), np.quantile(wanted, levels), atol=0.02)


def test_extreme_draws_give_a_fraction():
    edges = np.array([0.0, 1e-300, 0.5, 1 - 2**-53])
    for alpha in (1e-4, 0.2, 100.0):
        for second in (0.0, 0.25, 0.5):
            found = symmetric_beta(np.full(4, alpha), edges, np.full(4, second))
            assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"mixup": -0.1}, "mixup is -0.1; give 0"),
        ({"cutmix": float("inf")}, "cutmix is inf"),
        ({"mix_probability": 0.0}, "mix_probability is 0.0"),
    ],
)
def test_impossible_settings_are_named(bad, words):
    with pytest.raises(InputError, match=words):
        Augment(**bad)
