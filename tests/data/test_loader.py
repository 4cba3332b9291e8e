import numpy as np
import pytest
import torch

from stillroom.data import Augment, ImageSet, Loader
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
EVERYTHING = Augment(pad=2, rotate=15, min_scale=0.5)


def loader(images, **options):
    options = {
        "batch_size": 16,
        "input_format": InputFormat(MEAN, STD),
        "shuffle": True,
        "augment": Augment(pad=2),
    } | options
    return Loader(images, **options)


def views(batches, field="images"):
    """What each sample id looked like."""
    return {int(i): image for batch in batches for i, image in zip(batch.ids, getattr(batch, field), strict=True)}


def assert_same_views(some, others):
    shared = some.keys() & others.keys()
    assert shared
    for sample in shared:
        assert torch.equal(some[sample], others[sample])


def test_normalisation_is_exact(small_set):
    (batch,) = loader(small_set, batch_size=103, shuffle=False, augment=None).epoch(0)
    mean, std = (np.asarray(values).reshape(1, 3, 1, 1) for values in (MEAN, STD))
    expected = (small_set.images.numpy() / 255 - mean) / std
    np.testing.assert_allclose(batch.images.numpy(), expected, atol=2e-6)
    assert torch.equal(batch.labels, small_set.labels)
    assert torch.equal(batch.ids, small_set.ids)


def test_border_is_black_before_normalisation():
    white = ImageSet(
        torch.full((50, 3, 8, 8), 255, dtype=torch.uint8),
        torch.zeros(50, dtype=torch.int64),
        torch.arange(50),
        ("a",),
    )
    seen = torch.cat([batch.images for batch in loader(white).epoch(0)])
    darkest = seen.amin((0, 2, 3))
    torch.testing.assert_close(darkest, -torch.tensor(MEAN) / torch.tensor(STD))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [None, Augment(pad=2), EVERYTHING])
def test_batches_have_the_memory_format(small_set, augment, channels_last):
    batch = next(loader(small_set, augment=augment, channels_last=channels_last).epoch(0))
    assert batch.images.dtype == torch.float32
    assert batch.images.shape == (16, 3, 12, 10)
    wanted = torch.channels_last if channels_last else torch.contiguous_format
    assert batch.images.is_contiguous(memory_format=wanted)


@pytest.mark.parametrize("augment", [Augment(pad=2), EVERYTHING])
def test_view_depends_on_seed_epoch_and_id_only(small_set, augment):
    reference = views(loader(small_set, augment=augment).epoch(3))
    assert_same_views(reference, views(loader(small_set, augment=augment, batch_size=5).epoch(3)))
    assert_same_views(reference, views(loader(small_set, augment=augment, shuffle=False).epoch(3)))
    assert_same_views(reference, views(loader(small_set.select(3, 4), augment=augment).epoch(3)))
    assert_same_views(reference, views(loader(small_set, augment=augment).epoch(3, start_step=4)))
    part = loader(small_set, augment=augment, rank=1, world_size=2)
    assert_same_views(reference, views(part.epoch(3)))


def test_epochs_and_seeds_differ(small_set):
    first = [batch.ids for batch in loader(small_set).epoch(0)]
    for other in (loader(small_set).epoch(1), loader(small_set, seed=1).epoch(0)):
        assert not torch.equal(torch.cat(first), torch.cat([batch.ids for batch in other]))
    one, two = (views(loader(small_set, shuffle=False).epoch(epoch)) for epoch in (0, 1))
    assert sum(not torch.equal(one[sample], two[sample]) for sample in one) > 80


@pytest.mark.parametrize(("epoch", "shown"), [(0, 0), (1, 1), (3, 3), (4, 1), (8, 2)])
def test_repeated_views_are_those_of_the_first_epochs(small_set, epoch, shown):
    repeating = loader(small_set, repeat_views=3, strong=True)
    wanted = list(loader(small_set, strong=True).epoch(shown, 2))
    for batch, other in zip(repeating.epoch(epoch, 2), wanted, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.strong, other.strong)
        assert torch.equal(batch.ids, other.ids)
        assert (batch.epoch, batch.start) == (shown, other.start)
    assert torch.equal(repeating.order(epoch), loader(small_set).order(shown))


def test_every_image_once_in_an_epoch(small_set):
    seen = torch.cat([batch.ids for batch in loader(small_set).epoch(2)])
    assert torch.equal(seen.sort().values, small_set.ids)
    assert not torch.equal(seen, small_set.ids)


def test_subset_keeps_the_relative_order(small_set):
    part = small_set.select(per_class=7)
    whole = [int(i) for batch in loader(small_set).epoch(0) for i in batch.ids]
    kept = set(part.ids.tolist())
    assert [i for i in whole if i in kept] == [int(i) for batch in loader(part).epoch(0) for i in batch.ids]


def test_restart_continues_where_it_stopped(small_set):
    whole = list(loader(small_set).epoch(1))
    rest = list(loader(small_set).epoch(1, start_step=2))
    assert len(rest) == len(whole) - 2
    for one, two in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)


@pytest.mark.parametrize(("batch_size", "world_size"), [(16, 2), (16, 4), (17, 3), (26, 4), (11, 5)])
def test_steps_and_images_are_the_same_under_any_number_of_processes(small_set, batch_size, world_size):
    alone = loader(small_set, batch_size=batch_size)
    parts = [loader(small_set, batch_size=batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    steps = zip(alone.epoch(2), *(part.epoch(2) for part in parts), strict=True)
    for step, (whole, *shown) in enumerate(steps):
        turns = [parts[0].first_owner(step) + place for place in range(len(whole.ids))]
        own = [iter([] if batch.stand_in else batch.ids.tolist()) for batch in shown]
        assert [next(own[turn % world_size]) for turn in turns] == whole.ids.tolist()
        assert all(next(rest, None) is None for rest in own)
        assert all(len(batch.ids) == 1 for batch in shown if batch.stand_in)


@pytest.mark.parametrize("world_size", [1, 2, 8])
def test_evaluation_counts_every_image_once(small_set, world_size):
    short = small_set.select(first_classes=2)  # 42 images: the last batch of 8 has 2
    counted = []
    for rank in range(world_size):
        part = loader(short, batch_size=8, shuffle=False, augment=None, rank=rank, world_size=world_size)
        batches = list(part.epoch(0))
        assert len(batches) == len(part) == part.steps_per_epoch
        counted += [int(i) for batch in batches if not batch.stand_in for i in batch.ids]
    assert sorted(counted) == short.ids.tolist()


@pytest.mark.parametrize(
    ("batch_size", "options", "steps"),
    [
        (17, {}, 6),  # one image left: dropped
        (17, {"shuffle": False}, 7),
        (101, {}, 2),  # two left: kept
        (16, {}, 7),
        (16, {"drop_last": True}, 6),
        (100, {"world_size": 2}, 2),  # three left for two processes
        (101, {"world_size": 4}, 2),  # two left for four
        (17, {"world_size": 4}, 6),
        (103, {}, 1),
    ],
)
def test_last_batch(small_set, batch_size, options, steps):
    training = loader(small_set, batch_size=batch_size, **options)
    assert len(training) == steps == len(list(training.epoch(0)))


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 15, "world_size": 16}, "batch_size is 15 with 16 processes; give at least 16"),
        ({"batch_size": 200, "drop_last": True}, "batch_size is 200: no batch for 103"),
        ({"rank": 2, "world_size": 2}, "rank is 2"),
        ({"input_format": InputFormat((0.5,), (0.5,))}, "mean and std have 1 values each; give 3"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_loader_names_what_is_wrong(small_set, bad, words):
    with pytest.raises(InputError, match=words):
        loader(small_set, **bad)


@pytest.mark.parametrize("augment", [None, Augment(pad=2), EVERYTHING])
def test_strong_view_leaves_the_rest_of_the_batch_alone(small_set, augment):
    with_strong = list(loader(small_set, augment=augment, strong=True).epoch(1))
    without = list(loader(small_set, augment=augment).epoch(1))
    for one, two in zip(with_strong, without, strict=True):
        assert two.strong is None
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.ids, two.ids)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("augment", [None, Augment(pad=0, flip=False), Augment(pad=2), EVERYTHING])
def test_strong_view_is_like_the_images(small_set, augment, channels_last):
    batch = next(loader(small_set, augment=augment, strong=True, channels_last=channels_last).epoch(0))
    assert batch.strong.shape == batch.images.shape
    assert batch.strong.dtype == batch.images.dtype
    assert batch.strong.device == batch.images.device
    assert batch.strong.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    bytes_again = (batch.strong * torch.tensor(STD).view(1, 3, 1, 1) + torch.tensor(MEAN).view(1, 3, 1, 1)) * 255
    torch.testing.assert_close(bytes_again, bytes_again.round(), atol=1e-3, rtol=0)
    assert bytes_again.round().min() >= 0
    assert bytes_again.round().max() <= 255


@pytest.mark.parametrize("augment", [None, Augment(pad=2), EVERYTHING])
def test_strong_view_depends_on_seed_epoch_and_id_only(small_set, augment):
    def seen(images=small_set, start_step=0, **options):
        return views(loader(images, augment=augment, strong=True, **options).epoch(3, start_step), "strong")

    reference = seen()
    assert len(reference) == len(small_set)
    assert_same_views(reference, seen(batch_size=5))
    assert_same_views(reference, seen(shuffle=False))
    assert_same_views(reference, seen(small_set.select(3, 4)))
    assert_same_views(reference, seen(start_step=4))
    for rank in range(2):
        assert_same_views(reference, seen(rank=rank, world_size=2))


def test_strong_view_differs_from_the_images_and_between_epochs_and_seeds(small_set):
    training = loader(small_set, strong=True)
    first = views(training.epoch(0), "strong")
    for other in (
        views(training.epoch(0)),
        views(training.epoch(1), "strong"),
        views(loader(small_set, strong=True, seed=1).epoch(0), "strong"),
    ):
        assert sum(not torch.equal(first[sample], other[sample]) for sample in first) > 95


def test_strong_view_draws_its_own_crop_and_flip():
    # Every column has its own brightness, so the crop and flip of a view can be read where nothing else changed.
    ramp = (torch.arange(16, dtype=torch.uint8) * 10 + 20).expand(3000, 1, 16, 16).contiguous()
    images = ImageSet(ramp, torch.zeros(3000, dtype=torch.int64), torch.arange(3000), ("a",))
    options = {"input_format": InputFormat((0.0,), (1.0,)), "augment": Augment(pad=0), "batch_size": 500}
    batches = list(loader(images, **options, strong=True).epoch(0))
    weak, strong = views(batches), views(batches, "strong")

    def falls(image):
        return bool(image[0, 0, 0] > image[0, 0, -1])

    plain = [sample for sample in weak if any(torch.equal(strong[sample], way) for way in (weak[0], weak[0].flip(-1)))]
    assert len(plain) > 20
    assert {(falls(weak[sample]), falls(strong[sample])) for sample in plain} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }


def test_strong_view_of_grey_images(small_set):
    grey = ImageSet(small_set.images[:, :1], small_set.labels, small_set.ids, small_set.classes)
    batches = list(loader(grey, input_format=InputFormat((0.5,), (0.2,)), strong=True).epoch(0))
    assert all(batch.strong.shape == batch.images.shape for batch in batches)
    assert not any(torch.equal(batch.strong, batch.images) for batch in batches)


def test_strong_view_of_other_channels_is_refused(small_set):
    two = ImageSet(small_set.images[:, :2], small_set.labels, small_set.ids, small_set.classes)
    with pytest.raises(InputError, match="strong is True for images with 2 channels"):
        loader(two, input_format=InputFormat((0.5, 0.5), (0.2, 0.2)), strong=True)
    assert len(loader(two, input_format=InputFormat((0.5, 0.5), (0.2, 0.2)))) == 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("augment", [Augment(pad=2), Augment(pad=2, mixup=0.5, cutmix=1.0)])
def test_device_makes_the_same_batches(small_set, augment):
    options = {"augment": augment, "batch_size": 15, "strong": True}
    here, there = (list(loader(small_set, device=device, **options).epoch(0)) for device in ("cpu", "cuda"))
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one.main_labels, two.main_labels.cpu())
        assert torch.equal(one.ids, two.ids.cpu())
        torch.testing.assert_close(one.images, two.images.cpu())
        torch.testing.assert_close(one.strong, two.strong.cpu())


def test_a_device_without_room_for_the_set_is_one_error_that_says_what_helps(small_set, monkeypatch):
    own = torch.Tensor.to

    def to(tensor, *given, **options):
        if tensor.dtype != torch.uint8:
            return own(tensor, *given, **options)
        raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {tensor.nbytes} bytes.")

    monkeypatch.setattr(torch.Tensor, "to", to)
    with pytest.raises(InputError, match=r"103 images of 3x\d+x\d+ take .* GB, and cpu has no room .*image_size"):
        loader(small_set)


def test_an_empty_set_is_refused(small_set):
    with pytest.raises(InputError, match="source is empty"):
        loader(small_set.at(torch.arange(0)))


@pytest.mark.parametrize("augment", [None, Augment(pad=2), EVERYTHING])
def test_pixels_are_the_view_before_resizing_and_normalising(small_set, augment):
    wanted = InputFormat(MEAN, STD, (12, 12))
    for batch in loader(small_set, augment=augment, strong=True, input_format=wanted).epoch(3):
        for pixels, images in ((batch.pixels, batch.images), (batch.strong_pixels, batch.strong)):
            assert pixels.shape[2:] == small_set.images.shape[2:]
            assert torch.equal(InputTransform(wanted)(pixels), images)


def test_a_batch_knows_its_place_in_the_epoch(small_set):
    for rank in (0, 1):
        own = loader(small_set, rank=rank, world_size=2)
        starts = [(batch.epoch, batch.start) for batch in own.epoch(4, 2)]
        assert starts == [(4, own.own_before(step)) for step in range(2, len(own))]


def balanced_set(small_set):
    labels = torch.zeros(103, dtype=torch.int64)
    labels[50:53] = torch.tensor([1, 1, 2])
    return ImageSet(small_set.images, labels, small_set.ids, ("a", "b", "c"))


def test_an_image_of_a_small_class_is_shown_several_times_each_time_in_another_view(small_set):
    images = balanced_set(small_set)
    training = loader(images, balanced=True, augment=Augment(pad=2, colour_jitter=0.4, erase=0.3))
    plain = views(loader(images, augment=Augment(pad=2, colour_jitter=0.4, erase=0.3)).epoch(1))
    batches = list(training.epoch(1))
    ids, shown = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("ids", "images"))
    assert len(ids) == 103
    only = shown[ids == images.ids[52]]
    assert len(only) in (34, 35)
    assert len(only.unique(dim=0)) == len(only)
    for sample in ids.unique().tolist():  # one of them is the view that shuffling shows
        assert any(torch.equal(view, plain[sample]) for view in shown[ids == sample])
    assert torch.equal(ids, images.ids[training.order(1)])


def test_balanced_batches_do_not_depend_on_batches_processes_or_steps(small_set):
    images = balanced_set(small_set)
    (whole,) = loader(images, balanced=True, batch_size=103).epoch(2)
    steps = list(loader(images, balanced=True, batch_size=10).epoch(2, start_step=3))
    assert torch.equal(torch.cat([batch.images for batch in steps]), whole.images[30:])
    for rank in (0, 1):
        (part,) = loader(images, balanced=True, batch_size=103, rank=rank, world_size=2).epoch(2)
        assert torch.equal(part.images, whole.images[rank::2])


def test_balanced_sampling_needs_labels(small_set):
    with pytest.raises(InputError, match="balanced is True; it needs shuffle=True and images with labels"):
        loader(small_set.without_labels(), balanced=True)


def test_main_labels_are_those_of_the_larger_fractions(small_set):
    training = loader(small_set, augment=Augment(pad=2, mixup=1.0, cutmix=1.0))
    shown = torch.cat([batch.main_labels for batch in training.epoch(2)])
    own = torch.cat([batch.labels for batch in training.epoch(2)])
    assert torch.equal(training.main_labels(2), shown)
    assert 10 < int((shown != own).sum()) < 60


@pytest.mark.parametrize("change", [{"auto_augment": "trivial"}, {"auto_augment": "rand"}, {"erase": 0.9}])
def test_a_teacher_of_another_size_sees_the_view_of_the_student(small_set, change):
    student = InputFormat(MEAN, STD, (6, 5))
    augment = Augment(pad=1, **change)
    batch = next(loader(small_set, augment=augment, input_format=student, batch_size=50).epoch(1))
    assert torch.equal(InputTransform(student)(batch.pixels), batch.images)
    assert InputTransform(InputFormat(MEAN, STD))(batch.pixels).shape[2:] == (12, 10)
    plain = next(loader(small_set, augment=Augment(pad=1), batch_size=50).epoch(1))
    assert not torch.equal(plain.pixels, batch.pixels)
