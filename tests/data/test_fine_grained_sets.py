from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from stillroom.data import Augment, describe_sets, load_data
from stillroom.data.fine_grained_sets import FINE_GRAINED, list_fine_grained
from stillroom.errors import InputError


def jpeg(path, number, size=(12, 12)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number * 37 % 256, 255 - number * 11 % 256, 90)).save(path, "JPEG")


def cells(names):
    return np.array([[name] for name in names], dtype=object)


def cub200(folder):
    names = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    rows = [(1, names[0], "b", 1, 0), (2, names[0], "a", 1, 1), (3, names[1], "c", 2, 1), (4, names[1], "d", 2, 0)]
    for number, name, image, _, _ in rows:
        jpeg(folder / "images" / name / f"{image}.jpg", number, (12 + number, 12))
    tables = {
        "images": [f"{number} {name}/{image}.jpg" for number, name, image, _, _ in rows],
        "image_class_labels": [f"{row[0]} {row[3]}" for row in rows],
        "train_test_split": [f"{row[0]} {row[4]}" for row in rows],
        "classes": [f"{number} {name}" for number, name in enumerate(names, start=1)],
    }
    for table, lines in tables.items():
        (folder / f"{table}.txt").write_text("".join(f"{line}\n" for line in lines))


def stanford_dogs(folder):
    files = ["n02085620-Chihuahua/n02085620_10.jpg", "n02085782-Japanese_spaniel/n02085782_1.jpg"]
    for number, file in enumerate(files):
        jpeg(folder / "Images" / file, number)
        jpeg(folder / "Images" / file.replace(".jpg", "9.jpg"), 9 + number)
    labels = np.array([[1], [2]])
    savemat(folder / "train_list.mat", {"file_list": cells(files), "labels": labels})
    files = [file.replace(".jpg", "9.jpg") for file in files]
    savemat(folder / "test_list.mat", {"file_list": cells(files), "labels": labels})


def stanford_cars(folder):
    def table(path, names):
        kinds = [("fname", object), ("class", object)]
        rows = np.array([(name, number) for number, name in enumerate(names, start=1)], dtype=kinds)
        savemat(path, {"annotations": rows})

    (folder / "devkit").mkdir(parents=True)
    for split in ("train", "test"):
        for number in range(2):
            jpeg(folder / f"cars_{split}" / f"{number:05}.jpg", number + 5 * (split == "test"))
    table(folder / "devkit" / "cars_train_annos.mat", ["00000.jpg", "00001.jpg"])
    table(folder / "cars_test_annos_withlabels.mat", ["00000.jpg", "00001.jpg"])
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": cells(["AM General Hummer", "Acura RL"])})


def fgvc_aircraft(folder):
    data = folder / "data"
    for number in range(4):
        jpeg(data / "images" / f"{number:07}.jpg", number)
    (data / "variants.txt").write_text("707-320\nDC-9 30\n")
    (data / "images_variant_trainval.txt").write_text("0000000 707-320\n0000001 DC-9 30\n")
    (data / "images_variant_test.txt").write_text("0000002 707-320\n0000003 DC-9 30\n")


def flowers102(folder):
    for number in range(1, 205):
        jpeg(folder / "jpg" / f"image_{number:05}.jpg", number)
    savemat(folder / "imagelabels.mat", {"labels": np.array([[(number - 1) % 102 + 1 for number in range(1, 205)]])})
    first, second, third = ([list(range(*ends))] for ends in ((1, 51), (51, 103), (103, 205)))
    savemat(folder / "setid.mat", {"trnid": first, "valid": second, "tstid": third})


def food101(folder):
    for split in ("train", "test"):
        named = {name: [f"{name}/{split}{number}" for number in range(2)] for name in ("apple_pie", "waffles")}
        for number, image in enumerate(image for images in named.values() for image in images):
            jpeg(folder / "images" / f"{image}.jpg", number + 4 * (split == "test"))
        (folder / "meta").mkdir(exist_ok=True)
        (folder / "meta" / f"{split}.json").write_text(json.dumps(named))


def oxford_pets(folder):
    rows = {
        "trainval": ["Abyssinian_1 1 1 1", "great_pyrenees_2 2 2 1"],
        "test": ["Abyssinian_3 1 1 1", "great_pyrenees_4 2 2 1"],
    }
    for split, lines in rows.items():
        for line in lines:
            name = line.split()[0]
            jpeg(folder / "images" / f"{name}.jpg", int(name[-1]))
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{split}.txt").write_text("\n".join(lines))


MADE = {
    "cub200": (cub200, ("Black footed Albatross", "Laysan Albatross")),
    "stanford-dogs": (stanford_dogs, ("n02085620 Chihuahua", "n02085782 Japanese spaniel")),
    "stanford-cars": (stanford_cars, ("AM General Hummer", "Acura RL")),
    "fgvc-aircraft": (fgvc_aircraft, ("707-320", "DC-9 30")),
    "flowers102": (flowers102, ("pink primrose", "hard-leaved pocket orchid")),
    "food101": (food101, ("apple_pie", "waffles")),
    "oxford-pets": (oxford_pets, ("Abyssinian", "great pyrenees")),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Every set in its published layout, with a few images of 12x12 pixels; nothing may be written there."""
    root = tmp_path_factory.mktemp("fine")
    for name, (make, _) in MADE.items():
        (root / FINE_GRAINED[name].folder).mkdir()
        make(root / FINE_GRAINED[name].folder)
    return root


@pytest.fixture(autouse=True)
def made_tables(monkeypatch):
    """Torchvision compares the tables of Flowers-102 with their published checksums."""
    monkeypatch.setattr("torchvision.datasets.flowers102.check_integrity", lambda path, md5: True)


@pytest.mark.parametrize("name", MADE)
def test_a_set_is_read_from_its_published_layout(root, name):
    data = load_data(name, root=root, image_size=8, download=False)
    assert (data.train.kind, data.train.shape) == ("files", (3, 8, 8))
    assert data.train.classes[:2] == MADE[name][1]
    assert data.train.classes == data.val.classes
    counts = (102, 102) if name == "flowers102" else (4, 4) if name == "food101" else (2, 2)
    assert (len(data.train), len(data.val)) == counts
    assert sorted(set(data.val.labels.tolist())) == list(range(len(data.val.classes)))
    assert not data.repeated, "no test image is a training image"
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.augment == Augment(pad=0, min_scale=0.08)


def test_images_have_the_labels_of_the_tables_whatever_their_order(root):
    data = load_data("cub200", root=root, image_size=8)
    assert data.train.names[0] == "images/001.Black_footed_Albatross/a.jpg"
    assert data.train.labels.tolist() == [0, 1]
    colour = data.val.pixels(torch.tensor([0]))[0, 0].float().mean()
    assert abs(colour - 37) < 6, "image 1, whose name sorts after that of image 2"


def test_sizes_differ_and_batches_have_imagenets_size(root):
    assert load_data("cub200", root=root).train.shape == (3, 224, 224)
    memory = load_data("cub200", root=root / "CUB_200_2011", image_size=8, source="memory")
    assert memory.train.images.shape == (2, 3, 8, 8)


@pytest.mark.parametrize("name", MADE)
def test_a_missing_set_says_what_to_get_and_which_layout_is_expected(tmp_path, monkeypatch, name):
    def offline(*args, **kwargs):
        raise OSError("no network")

    for module in ("fgvc_aircraft", "flowers102", "food101", "oxford_iiit_pet"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.download_and_extract_archive", offline)
    with pytest.raises(
        InputError, match=rf"{name} is not in .*{FINE_GRAINED[name].folder}.*\(.*, .*\), or set root"
    ) as caught:
        load_data(name, root=tmp_path)
    assert ("no network)" in str(caught.value)) == bool(FINE_GRAINED[name].torchvision)
    with pytest.raises(InputError) as caught:
        load_data(name, root=tmp_path, download=False)
    assert "downloaded (" not in str(caught.value)


def test_what_is_missing_or_damaged_is_named(root, tmp_path):
    shutil.copytree(root / "CUB_200_2011", tmp_path / "CUB_200_2011")
    folder = tmp_path / "CUB_200_2011"
    (folder / "images" / "002.Laysan_Albatross" / "c.jpg").unlink()
    with pytest.raises(InputError, match=r"1 of 2 training images are missing \(images/002.Laysan_Albatross/c.jpg\)"):
        load_data("cub200", root=tmp_path, image_size=8)
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n")
    with pytest.raises(InputError, match=r"have 4, 3 and 4 images; unpack the set again"):
        list_fine_grained("cub200", tmp_path, False)
    (folder / "image_class_labels.txt").write_text("1 1\n2 1\n3 2\n4 7\n")
    with pytest.raises(InputError, match=r"cub200: a table in .* is damaged \(KeyError.*unpack the set again"):
        list_fine_grained("cub200", tmp_path, False)
    (folder / "classes.txt").unlink()
    with pytest.raises(InputError, match=r"classes\.txt cannot be read"):
        list_fine_grained("cub200", tmp_path, False)


def test_every_fine_grained_set_is_described():
    described = {row.name: row for row in describe_sets()}
    assert [described[name].size for name in FINE_GRAINED] == [224] * 7
