import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets

from stillroom.data import Augment, describe_sets, load_data, named_sets
from stillroom.data.fine_grained_sets import FINE_GRAINED
from stillroom.data.glyphs import glyphs100
from stillroom.errors import InputError


@pytest.fixture
def few_glyphs(monkeypatch):
    monkeypatch.setattr(named_sets, "glyphs100", lambda: glyphs100(0, 3, 2))


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


def test_glyphs_by_name(few_glyphs):
    data = load_data("glyphs100", first_classes=10, per_class=2)
    assert len(data.train) == len(data.val) == 20
    assert not data.augment.flip
    small = load_data("glyphs100", image_size=16)
    assert small.val.images.shape == (200, 3, 16, 16)
    assert torch.equal(small.val.content(), load_data("glyphs100").val.content())


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


@pytest.mark.parametrize("below", ["", "imagenet", "imagenet/ILSVRC/Data/CLS-LOC"])
def test_imagenet_by_name_in_every_place(tmp_path, image, below):
    base = tmp_path / below
    for number, synset in enumerate(("n00000001", "n00000002")):
        (base / "train" / synset).mkdir(parents=True)
        image(number, (260, 230)).save(base / "train" / synset / "0.JPEG")
    (base / "val").mkdir()
    image(4, (300, 240)).save(base / "val" / "ILSVRC2012_val_00000001.JPEG")
    (base / "imagenet_2012_validation_synset_labels.txt").write_text("n00000002\n")
    data = load_data("imagenet", root=tmp_path)
    assert data.val.labels.tolist() == [1]
    assert data.train.shape == (3, 224, 224)
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.augment == Augment(pad=0, flip=True, min_scale=0.08)
    small = load_data("imagenet", root=tmp_path, image_size=32, crop_fraction=0.875)
    assert (small.val.kind, small.val.shape) == ("files", (3, 32, 32))


def test_imagenet_that_is_missing_says_where_to_get_it_and_how_to_lay_it_out(tmp_path):
    (tmp_path / "train" / "cats").mkdir(parents=True)  # another set's folder
    with pytest.raises(InputError, match=r"image-net\.org .* train/SYNSET/ and val/ in .*imagenet .*data=FOLDER"):
        load_data("imagenet", root=tmp_path)


def test_descriptions_match_the_sets(few_glyphs):
    described = {one.name: one for one in describe_sets()}
    before = ["glyphs100", "cifar10", "cifar100", "stl10", "tiny-imagenet", "imagenet"]
    assert list(described) == [*before, *FINE_GRAINED, "scenes"]
    glyphs = load_data("glyphs100")
    assert described["glyphs100"].classes == len(glyphs.train.classes)
    assert described["glyphs100"].size == glyphs.train.images.shape[-1]
