import sys

import numpy as np
import pytest

from stillroom.data import load_data
from stillroom.data.imagenet_layout import find_imagenet, list_imagenet
from stillroom.errors import InputError

SYNSETS = ("n02", "n01")  # of the validation images, in order; the sorted one has label 0
FULL = {"n01": "n00000001", "n02": "n00000002"}


def kaggle(root, synsets):
    rows = [
        f"ILSVRC2012_val_{n:08},{FULL.get(s, s)} 1 2 3 4 {FULL.get(s, s)} 5 6 7 8" for n, s in enumerate(synsets, 1)
    ]
    (root / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1], ""]))
    (root / "LOC_synset_mapping.txt").write_text(
        "n00000001 tench, Tinca tinca\nn00000002 goldfish, Carassius auratus\n"
    )


def synset_lines(root, synsets):
    (root / "imagenet_2012_validation_synset_labels.txt").write_text("".join(f"{FULL.get(s, s)}\n" for s in synsets))
    (root / "words.txt").write_text("n00000001\ttench, Tinca tinca\nn00000002\tgoldfish\n")


def devkit(root, synsets):
    from scipy.io import savemat

    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(7, "n00000001", "tench, Tinca tinca", "a fish", 0), (3, "n00000002", "goldfish", "a fish", 0)]
    savemat(folder / "meta.mat", {"synsets": np.array(rows, dtype=kind)})
    numbers = {"n01": 7, "n02": 3}
    lines = "".join(f"{numbers.get(s, s)}\n" for s in synsets)
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


@pytest.fixture
def imagenet(tmp_path, image):
    """Two synsets with training images, two validation images without ground truth."""

    def make(deeper=""):
        base = tmp_path / deeper
        for number, synset in enumerate(FULL.values()):
            (base / "train" / synset).mkdir(parents=True)
            for index in range(2):
                image(10 * number + index).save(base / "train" / synset / f"{synset}_{index}.JPEG")
        (base / "val").mkdir()
        for index in (1, 2):
            image(30 + index).save(base / "val" / f"ILSVRC2012_val_{index:08}.JPEG")
        return tmp_path

    return make


@pytest.mark.parametrize("deeper", ["", "ILSVRC/Data/CLS-LOC"])
@pytest.mark.parametrize("truth", [kaggle, synset_lines, devkit])
def test_every_form_of_the_ground_truth_gives_the_same_labels(imagenet, truth, deeper):
    root = imagenet(deeper)
    truth(root, SYNSETS)
    train, val = list_imagenet(root, find_imagenet(root))
    assert train.classes == val.classes == ("n00000001 tench", "n00000002 goldfish")
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert [name.rpartition("_")[2] for name in val.names] == ["00000001.JPEG", "00000002.JPEG"]
    assert val.labels.tolist() == [1, 0]
    assert train.problems == val.problems == ()


def test_load_data_knows_the_layout(imagenet):
    root = imagenet()
    kaggle(root, SYNSETS)
    data = load_data(root)
    assert data.val.labels.tolist() == [1, 0]
    assert data.val.classes == ("n00000001 tench", "n00000002 goldfish")


def test_class_folders_are_not_imagenets_layout(image_folder):
    image_folder("train")
    root = image_folder("val")
    assert find_imagenet(root) is None


def test_images_without_any_ground_truth_are_refused_with_the_three_files(imagenet):
    with pytest.raises(InputError, match=r"no file says their classes; put LOC_val_solution\.csv .*labels\.txt .*meta"):
        load_data(imagenet())


@pytest.mark.parametrize(
    ("truth", "synsets", "words"),
    [
        (kaggle, ("n01",), r"1 lines, 2 images; 1 image of .*val without a line \(ILSVRC2012_val_00000002\.JPEG\)"),
        (kaggle, ("n01", "n09"), r"1 line with a synset that has no folder in .*train \(line 2: n09\)"),
        (kaggle, ("n01", "n02", "n01"), r"3 lines, 2 images; 1 line without an image .*\(ILSVRC2012_val_00000003\)"),
        (synset_lines, ("n01", "", "n02"), r"\(line 2: \), 1 line without an image"),
        (synset_lines, ("n01",), "1 image of .* without a line"),
        (devkit, ("n01", "1001"), r"\(line 2: number '1001'\)"),
        (devkit, ("n01", "n02", "n02"), "3 lines, 2 images"),
    ],
)
def test_a_ground_truth_that_does_not_fit_is_refused_in_one_report(imagenet, truth, synsets, words):
    root = imagenet()
    truth(root, synsets)
    with pytest.raises(InputError, match=words):
        load_data(root)


def test_an_image_with_two_lines_is_refused(imagenet):
    root = imagenet()
    kaggle(root, SYNSETS)
    table = root / "LOC_val_solution.csv"
    table.write_text(table.read_text() + "ILSVRC2012_val_00000002,n00000002 1 2 3 4\n")
    with pytest.raises(InputError, match="1 image with more than one line"):
        load_data(root)


def test_numbers_without_their_table_and_without_scipy_are_refused(imagenet, monkeypatch):
    root = imagenet()
    devkit(root, SYNSETS)
    meta = root / "ILSVRC2012_devkit_t12" / "data" / "meta.mat"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "scipy.io", None)
        with pytest.raises(InputError, match="is a Matlab file, which needs scipy: pip install scipy; or put LOC_val"):
            load_data(root)
    meta.write_bytes(b"not Matlab")
    with pytest.raises(InputError, match=r"meta\.mat cannot be read"):
        load_data(root)
    meta.unlink()
    with pytest.raises(InputError, match=r"put meta\.mat of the development kit beside it"):
        load_data(root)
