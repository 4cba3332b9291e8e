import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from stillroom.data import Augment, DataSet, ImageSet, channel_statistics, describe_sets, load_data
from stillroom.data import datasets as module
from stillroom.data.glyphs import glyphs100
from stillroom.errors import InputError
from tests.data.image_files import as_array, png

SHARED = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet-200-32px"


@pytest.fixture
def few_glyphs(monkeypatch):
    monkeypatch.setattr(module, "glyphs100", lambda: glyphs100(0, 3, 2))


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Writes a CIFAR folder with a few images and lets torchvision take it for the real one."""

    def make(source, files, meta):
        folder = tmp_path / source.base_folder
        folder.mkdir()
        for name, labels in files.items():
            data = np.random.default_rng(0).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
            key = "labels" if "batch" in name else "fine_labels"
            (folder / name).write_bytes(pickle.dumps({"data": data, key: labels}, protocol=2))
        (folder / source.meta["filename"]).write_bytes(pickle.dumps(meta, protocol=2))
        monkeypatch.setattr("torchvision.datasets.utils.check_integrity", lambda *args: True)
        return tmp_path

    return make


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


def test_broken_images_stop_or_are_skipped(image_folder):
    image_folder("train", count=5)
    root = image_folder("val", count=5)
    (root / "train" / "ant" / "1.png").write_bytes(b"broken")
    (root / "val" / "bee" / "0.png").write_bytes(b"")
    with pytest.raises(
        InputError,
        match=r"2 of 20 images .*: train/ant/1\.png \(not an image\), val/bee/0\.png \(empty\); .*skip_broken",
    ):
        load_data(root)
    data = load_data(root, skip_broken=0.1)
    assert data.broken == ("train/ant/1.png", "val/bee/0.png")
    assert data.train.ids.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert len(data.val) == 9


def test_broken_rows_are_named(tmp_path, parquet_file, image):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1], encoded=[png(image(0)), None, b"x", png(image(1))])
    parquet_file(tmp_path / "val.parquet", [0, 1])
    with pytest.raises(
        InputError, match=r"2 of 6 .*train\.parquet row 1 \(empty\), train\.parquet row 2 \(not an image\)"
    ):
        load_data(tmp_path)
    assert load_data(tmp_path, skip_broken=0.4).train.ids.tolist() == [0, 3]


def test_nothing_readable(image_folder):
    image_folder("train", count=1)
    root = image_folder("val", count=1)
    for path in (root / "val").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"validation split .* no readable images"):
        load_data(root, skip_broken=1.0)


def test_sizes(image_folder):
    image_folder("train", size=(8, 8))
    root = image_folder("val", size=(12, 8))
    with pytest.raises(InputError, match=r"training and validation images differ \(8x8 and 12x8\)"):
        load_data(root)
    data = load_data(root, image_size=6)
    assert data.train.images.shape[2:] == data.val.images.shape[2:] == (6, 6)


def test_glyphs_by_name(few_glyphs):
    data = load_data("glyphs100", first_classes=10, per_class=2)
    assert len(data.train) == len(data.val) == 20
    assert not data.augment.flip
    small = load_data("glyphs100", image_size=16)
    assert small.val.images.shape == (200, 3, 16, 16)
    assert contents(small.val) == contents(load_data("glyphs100").val)


def test_cifar10(cifar):
    batches = {f"data_batch_{number}": [0, 9] for number in range(1, 6)} | {"test_batch": [3, 4, 5]}
    names = [f"name {number}" for number in range(10)]
    data = load_data("cifar10", root=cifar(datasets.CIFAR10, batches, {"label_names": names}))
    assert data.train.images.shape == (10, 3, 32, 32)
    assert data.val.labels.tolist() == [3, 4, 5]
    assert data.train.classes == tuple(names)
    assert data.mean == (0.5071, 0.4867, 0.4408)
    first = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)[0]
    assert data.train.images[0].flatten().tolist() == first.tolist()
    assert data.augment == Augment()


def test_cifar100(cifar):
    names = [str(number) for number in range(100)]
    root = cifar(datasets.CIFAR100, {"train": [0, 99], "test": [50]}, {"fine_label_names": names})
    data = load_data("cifar100", root=root)
    assert data.train.labels.tolist() == [0, 99]
    assert data.std == (0.2675, 0.2565, 0.2761)


@pytest.mark.parametrize("download", [False, True])
def test_cifar_that_cannot_be_fetched(tmp_path, monkeypatch, download):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", offline)
    with pytest.raises(InputError, match=r"CIFAR100 is not in .*put the folder cifar-100-python there"):
        load_data("cifar100", root=tmp_path, download=download)


@pytest.mark.parametrize("below", ["", "tiny-imagenet-200"])
def test_tiny_imagenet(tmp_path, image, below):
    root = tmp_path / below
    for wnid in ("n01", "n02"):
        (root / "train" / wnid / "images").mkdir(parents=True)
        image(3, (64, 64)).save(root / "train" / wnid / "images" / "0.JPEG")
    (root / "wnids.txt").write_text("n02\nn01")
    (root / "val" / "images").mkdir(parents=True)
    image(4, (64, 64)).save(root / "val" / "images" / "v.JPEG")
    (root / "val" / "val_annotations.txt").write_text("v.JPEG\tn02\t0\t0\t9\t9")
    data = load_data("tiny-imagenet", root=tmp_path)
    assert data.train.images.shape == (2, 3, 64, 64)
    assert data.val.labels.tolist() == [1]
    assert data.augment.rotate == 20
    assert data.mean == (0.4802, 0.4481, 0.3975)
    assert load_data(root).train.classes == ("n01", "n02")


def test_tiny_imagenet_missing(tmp_path):
    with pytest.raises(InputError, match="tiny-imagenet is not in"):
        load_data("tiny-imagenet", root=tmp_path)


def test_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(
        InputError, match=r"'cifar1000'.*neither a folder nor one of glyphs100, cifar10, cifar100, tiny"
    ):
        load_data("cifar1000")
    file = tmp_path / "train.parquet"
    file.write_text("")
    with pytest.raises(InputError, match="a file; give the folder"):
        load_data(file)


@pytest.mark.parametrize(
    "bad",
    [{"image_size": 0}, {"val_fraction": 0.0}, {"val_fraction": 1.0}, {"seed": -1}, {"skip_broken": 1.5}],
)
def test_arguments_are_named(bad, tmp_path):
    with pytest.raises(InputError, match=next(iter(bad))):
        load_data(tmp_path, **bad)


def test_descriptions_match_the_sets(few_glyphs):
    described = {one.name: one for one in describe_sets()}
    assert list(described) == ["glyphs100", "cifar10", "cifar100", "tiny-imagenet"]
    glyphs = load_data("glyphs100")
    assert described["glyphs100"].classes == len(glyphs.train.classes)
    assert described["glyphs100"].size == glyphs.train.images.shape[-1]


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


def image_set(shape=(3, 8, 8), classes=("a", "b")):
    images = torch.zeros(4, *shape, dtype=torch.uint8)
    return ImageSet(images, torch.arange(4) % len(classes), torch.arange(4), classes)


@pytest.mark.parametrize(
    ("val", "mean", "message"),
    [
        (image_set((3, 8, 12)), 3, r"\(3, 8, 8\) and validation images \(3, 8, 12\)"),
        (image_set((1, 8, 8)), 3, r"\(3, 8, 8\) and validation images \(1, 8, 8\)"),
        (image_set(classes=("a", "c")), 3, r"classes .* differ \('b' and 'c'\)"),
        (image_set(classes=("a", "b", "c")), 3, r"classes .* differ \(None and 'c'\)"),
        (image_set(), 1, "mean and std have 1 and 1 values; give 3"),
    ],
)
def test_splits_that_do_not_fit_each_other_are_refused(val, mean, message):
    with pytest.raises(InputError, match=message):
        DataSet("mine", image_set(), val, (0.5,) * mean, (0.2,) * mean, Augment())
