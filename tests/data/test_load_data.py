import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stillroom.data import channel_statistics, load_data
from stillroom.errors import InputError
from tests.data.image_files import as_array

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-200-32px"


def test_image_folder_with_splits(image_folder, image):
    image_folder("train", count=3)
    root = image_folder("val", count=2)
    data = load_data(root)
    assert data.name == root.name
    assert data.train.classes == data.val.classes == ("ant", "bee")
    assert data.train.ids.tolist() == list(range(6))
    np.testing.assert_array_equal(data.train.images[4].numpy(), as_array(image(4)))
    assert (data.mean, data.std) == channel_statistics(data.train.images)
    assert data.broken == ()


def contents(images):
    return set(images.content().tolist())


def test_one_level_of_classes_is_split(image_folder):
    root = image_folder(count=36)
    one, again, other = (
        load_data(root, val_fraction=0.3),
        load_data(root, val_fraction=0.3),
        load_data(root, val_fraction=0.3, seed=1),
    )
    assert 10 <= len(one.val) <= 34
    assert sorted(one.train.ids.tolist() + one.val.ids.tolist()) == list(range(72))
    assert torch.equal(one.val.ids, again.val.ids)
    assert not torch.equal(one.val.ids, other.val.ids)
    whole = load_data(root, val_fraction=0.01)
    place = {int(i): image for split in (one.train, one.val) for i, image in zip(split.ids, split.images, strict=True)}
    for i, image in zip(whole.train.ids, whole.train.images, strict=True):
        assert torch.equal(image, place[int(i)])


def test_the_split_stays_when_images_come_go_and_are_renamed(image_folder, image):
    root = image_folder(count=36)
    before = load_data(root, val_fraction=0.3)
    for place, file in enumerate(sorted(root.rglob("*.png"))[::5]):
        file.unlink() if place % 2 else file.rename(file.with_name(f"renamed-{place}.png"))
    for number in range(200, 260):
        image(number, (8, 8)).save(root / "bee" / f"0{number}.png")
    (root / "ant").rename(root / "zebra")
    after = load_data(root, val_fraction=0.3, image_size=12)
    assert not contents(after.val) & contents(before.train)
    assert not contents(after.train) & contents(before.val)
    assert len(contents(after.val) & contents(before.val)) > 0.7 * len(before.val)


def test_the_split_is_that_of_the_images_wherever_they_lie(image_folder, tmp_path, parquet_file):
    """The same images as files and as rows are held out, and so a teacher on the one fits a student on the other."""
    folder = load_data(image_folder(where="folder", count=20) / "folder", val_fraction=0.3)
    files = sorted((tmp_path / "folder").rglob("*.png"))
    labels = [int(file.parent.name == "bee") for file in files]
    rows = tmp_path / "rows"
    parquet_file(rows / "train.parquet", labels[::-1], encoded=[file.read_bytes() for file in files[::-1]])
    assert contents(load_data(rows, val_fraction=0.3).val) == contents(folder.val)


def test_copies_of_an_image_lie_on_one_side_and_official_splits_that_share_some_are_known(image_folder, tmp_path):
    root = image_folder(where="one", count=20) / "one"
    for file in list(root.rglob("*.png")):
        shutil.copy(file, file.with_name(f"copy-{file.name}"))
    data = load_data(root, val_fraction=0.4)
    assert len(data.train) + len(data.val) == 80
    assert data.repeated == frozenset()
    for place, file in enumerate(sorted(root.rglob("*.png"))):
        there = tmp_path / "two" / ("val" if place % 3 == 0 else "train") / file.parent.name / file.name
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, there)
    split = load_data(tmp_path / "two", image_size=4, per_class=1)
    assert split.repeated == contents(load_data(tmp_path / "two").train) & contents(split.val)
    assert len(split.repeated) > 5


def test_parquet(tmp_path, parquet_file, image):
    parquet_file(tmp_path / "train.parquet", [0, 1, 1])
    parquet_file(tmp_path / "test.parquet", [1, 0])
    data = load_data(str(tmp_path))
    assert data.train.labels.tolist() == [0, 1, 1]
    assert len(data.val) == 2
    np.testing.assert_array_equal(data.train.images[2].numpy(), as_array(image(2)))


def test_parquet_without_validation_is_split(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 1] * 18)
    data = load_data(tmp_path, val_fraction=0.4)
    assert sorted(data.train.ids.tolist() + data.val.ids.tolist()) == list(range(36))
    assert min(torch.bincount(data.val.labels).tolist()) >= 2


def test_selection_shortens_training_only_and_keeps_statistics(image_folder):
    image_folder("train", classes=("ant", "bee", "cat"), count=4)
    root = image_folder("val", classes=("ant", "bee", "cat"), count=2)
    whole, part = load_data(root), load_data(root, first_classes=2, per_class=1)
    assert part.train.ids.tolist() == [0, 4]
    assert part.val.ids.tolist() == [0, 1, 2, 3]
    assert part.train.classes == part.val.classes == ("ant", "bee")
    assert (part.mean, part.std) == (whole.mean, whole.std)
    with pytest.raises(InputError, match="per_class is 5"):
        load_data(root, per_class=5)


@pytest.mark.parametrize("source", ["memory", "files"])
def test_chosen_classes_keep_their_order_ids_and_statistics(image_folder, source):
    names = ("ant", "bee", "cat", "dog")
    image_folder("train", classes=names, count=3)
    root = image_folder("val", classes=names, count=2)
    whole = load_data(root, source=source)
    part = load_data(root, source=source, only_classes=["dog", "bee"])
    assert part.train.classes == part.val.classes == ("bee", "dog")
    assert part.train.ids.tolist() == [3, 4, 5, 9, 10, 11]
    assert part.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert torch.equal(part.val.pixels(torch.arange(4)), whole.val.pixels(torch.tensor([2, 3, 6, 7])))
    assert (part.mean, part.std) == (whole.mean, whole.std)
    few = load_data(root, source=source, only_classes=["bee", "cat", "dog"], first_classes=2, per_class=1)
    assert (few.train.classes, few.train.ids.tolist()) == (("bee", "cat"), [3, 6])
    with pytest.raises(InputError, match=r"no class or group named bees; did you mean bee\?; its classes are ant"):
        load_data(root, source=source, only_classes=["bees", "cat"])


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(
        InputError, match=r"'cifar1000'.*neither a folder nor one of glyphs100, cifar10, cifar100, stl10, tiny"
    ):
        load_data("cifar1000")
    file = tmp_path / "train.parquet"
    file.write_text("")
    with pytest.raises(InputError, match="a file; give its folder"):
        load_data(file)


@pytest.mark.parametrize(
    "bad",
    [{"image_size": 0}, {"val_fraction": 0.0}, {"val_fraction": 1.0}, {"seed": -1}, {"skip_broken": 1.5}],
)
def test_arguments_are_named(bad, tmp_path):
    with pytest.raises(InputError, match=next(iter(bad))):
        load_data(tmp_path, **bad)


def test_the_longest_side_is_for_images_with_boxes_and_at_least_the_shorter_side(image_folder):
    with pytest.raises(InputError, match=r"max_size is 16.*no boxes; leave it out"):
        load_data(image_folder(count=20), max_size=16)
    with pytest.raises(InputError, match="max_size is 16; give at least image_size, which is 32"):
        load_data("anything", image_size=32, max_size=16)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared Tiny-ImageNet")
def test_shared_tiny_imagenet(monkeypatch, tmp_path):
    """The validation file stands in for both splits: the training file takes half a minute."""
    for name in ("train.parquet", "validation.parquet"):
        (tmp_path / name).symlink_to(SHARED / "validation.parquet")
    data = load_data(tmp_path, first_classes=20)
    assert data.val.images.shape == (1000, 3, 32, 32)
    assert data.train.classes[0] == "n01443537 goldfish"
    assert torch.bincount(data.train.labels).tolist() == [50] * 20
    assert np.allclose(data.mean, (0.48, 0.448, 0.398), atol=0.01)
