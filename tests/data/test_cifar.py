import os
import pickle

import numpy as np
import pytest
from torchvision import datasets

from stillroom.data import load_data
from stillroom.data.cifar import _unpickle
from stillroom.errors import InputError

FOLDER, NAMES = datasets.CIFAR100.base_folder, [str(number) for number in range(100)]


class Payload:
    """Unpickled by an ordinary loader, it makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Writes CIFAR-100 with other content and lets the sums agree."""

    def make(train, meta=None):
        (tmp_path / FOLDER).mkdir()
        test = {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}
        for name, held in (("train", train), ("test", test), ("meta", meta or {"fine_label_names": NAMES})):
            (tmp_path / FOLDER / name).write_bytes(held if isinstance(held, bytes) else pickle.dumps(held, protocol=2))
        monkeypatch.setattr("torchvision.datasets.utils.check_integrity", lambda *args: True)
        return tmp_path

    return make


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("file", ["train", "meta"])
def test_a_payload_in_any_file_is_refused_and_never_run(cifar, tmp_path, protocol, file):
    target = tmp_path / "pwned"
    train = {"data": np.zeros((1, 3072), np.uint8), "fine_labels": [0]}
    poison = pickle.dumps({**train, "fine_label_names": NAMES, "more": Payload(target)}, protocol=protocol)
    root = cifar(poison if file == "train" else train, poison if file == "meta" else None)
    with pytest.raises(InputError, match=rf"{file} was refused and nothing in it was run .*mkdir"):
        load_data("cifar100", root=root, download=False)
    assert not target.exists()
    pickle.loads(poison)
    assert target.exists()


def test_a_payload_in_an_array_of_objects_is_never_run(cifar, tmp_path):
    target = tmp_path / "pwned"
    root = cifar({"data": np.array([Payload(target)], dtype=object), "fine_labels": [0]})
    with pytest.raises(InputError, match="nothing in it was run"):
        load_data("cifar100", root=root, download=False)
    assert not target.exists()


def test_files_other_than_the_published_are_not_even_opened(tmp_path):
    (tmp_path / FOLDER).mkdir()
    for name in ("train", "test", "meta"):
        (tmp_path / FOLDER / name).write_bytes(pickle.dumps(Payload(tmp_path / "pwned")))
    with pytest.raises(InputError, match="train is damaged or another file"):
        load_data("cifar100", root=tmp_path, download=False)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    "held",
    [
        b"",
        b"\x80\x02",
        [],
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1]},
        {"data": np.zeros((1, 3072), np.uint8), "fine_labels": ["1"]},
        {"data": np.zeros((1, 3071), np.uint8), "fine_labels": [1]},
        {"data": np.zeros((1, 3072), np.float32), "fine_labels": [1]},
        {"data": "text", "fine_labels": [1]},
    ],
    ids=["nothing", "head", "list", "no labels", "few labels", "text labels", "short", "floats", "text"],
)
def test_damaged_content_gives_one_error(cifar, held):
    with pytest.raises(InputError, match=r"train was refused .*download the set again"):
        load_data("cifar100", root=cifar(held), download=False)


def test_labels_without_a_class_are_refused(cifar):
    root = cifar({"data": np.zeros((1, 3072), np.uint8), "fine_labels": [100]})
    with pytest.raises(InputError, match="labels run from 100 to 100"):
        load_data("cifar100", root=root, download=False)


def test_arrays_come_out_as_numpy_put_them_in(tmp_path):
    for order in ("C", "F"):
        data = np.random.default_rng(0).integers(0, 256, (2, 3072), dtype=np.uint8)
        path = tmp_path / order
        path.write_bytes(pickle.dumps(np.asarray(data, order=order), protocol=2))
        with path.open("rb") as file:
            np.testing.assert_array_equal(_unpickle(file).pixels().reshape(2, 3072), data)
