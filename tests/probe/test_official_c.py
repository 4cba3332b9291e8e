from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.data.image_set import ImageSet
from stillroom.errors import InputError
from stillroom.probe.official_c import is_official, open_official


def val_images(classes: int = 2, side: int = 8) -> ImageSet:
    images = torch.zeros(4, 3, side, side, dtype=torch.uint8)
    labels = torch.arange(4) % classes
    return ImageSet(images, labels, torch.arange(4), tuple(f"n{number}" for number in range(classes)))


def cifar_c(folder: Path, each: int = 6, side: int = 8) -> Path:
    """Image i of severity s has the value 10 s + i."""
    folder.mkdir()
    values = (10 * np.arange(1, 6)[:, None] + np.arange(each)).reshape(-1, 1, 1, 1)
    for name in ("fog", "snow"):
        np.save(folder / f"{name}.npy", np.broadcast_to(values, (5 * each, side, side, 3)).astype(np.uint8))
    np.save(folder / "labels.npy", np.tile(np.arange(each) % 2, 5))
    return folder


def imagenet_c(folder: Path, *, group: str = "", side: int = 16) -> Path:
    """Image i of class c at severity s has the value 40 s + 10 c + i."""
    for severity in range(1, 6):
        for label in range(3):
            top = folder / group / "fog" / str(severity) / f"n{label}"
            top.mkdir(parents=True)
            for number in range(2):
                value = 40 * severity + 10 * label + number
                Image.new("RGB", (side, side), (value,) * 3).save(top / f"{number}.png")
    return folder


def test_cifar_c_is_read_by_corruption_and_severity(tmp_path):
    folder = cifar_c(tmp_path / "CIFAR-10-C")
    assert is_official(folder)
    found = open_official(folder, val_images(), 0)
    assert (tuple(found.corruptions), found.count) == (("fog", "snow"), 6)
    (part,) = found.images("snow", 3)
    assert part.images.shape == (6, 3, 8, 8)
    assert part.images[:, 0, 0, 0].tolist() == [30, 31, 32, 33, 34, 35]
    assert part.labels.tolist() == [0, 1, 0, 1, 0, 1]


def test_fewer_images_are_the_same_in_each_severity_and_even_over_the_classes(tmp_path):
    found = open_official(cifar_c(tmp_path / "c"), val_images(), 2)
    values = {s: next(iter(found.images("fog", s))).images[:, 0, 0, 0] - 10 * s for s in (1, 5)}
    assert values[1].equal(values[5])
    assert sorted(next(iter(found.images("fog", 1))).labels.tolist()) == [0, 1]


@pytest.mark.parametrize("group", ["", "weather"])
def test_folders_are_read_with_the_runs_classes_at_its_size(tmp_path, group):
    folder = imagenet_c(tmp_path / "Tiny-ImageNet-C", group=group)
    assert is_official(folder)
    found = open_official(folder, val_images(), 0)  # the run knows the first two of three classes
    (part,) = found.images("fog", 2)
    assert part.images.shape == (4, 3, 8, 8)
    assert part.images[:, 0, 0, 0].tolist() == [80, 81, 90, 91]
    assert part.labels.tolist() == [0, 0, 1, 1]


def test_another_folder_is_not_official(tmp_path):
    assert not is_official(tmp_path)
    assert not is_official(tmp_path / "missing")


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda top: np.save(top / "fog.npy", np.zeros((30, 8, 8), np.uint8)), r"fog.npy has shape \(30, 8, 8\)"),
        (lambda top: np.save(top / "snow.npy", np.zeros((10, 8, 8, 3), np.uint8)), r"must be uint8 of shape \(30"),
        (lambda top: np.save(top / "labels.npy", np.zeros(7, np.int64)), "five severities"),
        (lambda top: np.save(top / "labels.npy", np.arange(30) % 5), "5 classes and the run has 2"),
        (lambda top: (top / "fog.npy").write_bytes(b"no"), "cannot be read as a NumPy file"),
        (lambda top: [(top / f"{name}.npy").unlink() for name in ("fog", "snow")], "no other .npy file"),
    ],
)
def test_wrong_cifar_c_files_are_refused(tmp_path, damage, told):
    folder = cifar_c(tmp_path / "c")
    damage(folder)
    with pytest.raises(InputError, match=told):
        open_official(folder, val_images(), 0)


def test_wrong_folders_are_refused(tmp_path):
    folder = imagenet_c(tmp_path / "c")
    with pytest.raises(InputError, match="no folder of class n3"):
        open_official(folder, val_images(classes=4), 0)
    (folder / "fog" / "4").rename(folder / "fog" / "none")
    with pytest.raises(InputError, match="severity 4 of fog is missing"):
        open_official(folder, val_images(), 0)


def test_a_damaged_image_is_named(tmp_path):
    folder = imagenet_c(tmp_path / "c")
    (folder / "fog" / "2" / "n1" / "0.png").write_bytes(b"no image")
    found = open_official(folder, val_images(), 0)
    with pytest.raises(InputError, match=r"n1/0\.png cannot be read"):
        list(found.images("fog", 2))
