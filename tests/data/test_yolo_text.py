import pytest
import yaml

from stillroom.data.boxed_folder import BoxOptions, layout_of, load_boxed_folder
from stillroom.data.yolo_text import find_yolo
from stillroom.errors import InputError
from tests.data.boxed_folders import CLASSES, expected, found_in, write_yolo

OPTIONS = BoxOptions(32, 53)


def refusal(folder):
    with pytest.raises(InputError) as caught:
        load_boxed_folder(folder, OPTIONS)
    return str(caught.value)


def test_the_table_may_name_folders_and_classes_by_number(tmp_path):
    folder = write_yolo(tmp_path, "images/my-{}", names=None)
    assert find_yolo(folder) == (folder / "images", None)
    table = {"path": "../x", "train": "images/my-train", "val": "images/my-val", "names": dict(enumerate(CLASSES))}
    (folder / "data.yaml").write_text(yaml.safe_dump(table))
    assert layout_of(folder) == "yolo"
    loaded = load_boxed_folder(folder, OPTIONS)
    assert found_in(loaded.val) == expected("val")
    assert loaded.val.classes == CLASSES


def test_one_folder_for_both_splits_holds_images_out(tmp_path):
    folder = write_yolo(tmp_path, "images/my-{}", names=None)
    table = {"train": "images/my-train", "val": "images/my-train", "names": list(CLASSES)}
    (folder / "data.yaml").write_text(yaml.safe_dump(table))
    loaded = load_boxed_folder(folder, OPTIONS)
    assert len(loaded.train) + len(loaded.val) == 3
    assert not set(loaded.train.ids.tolist()) & set(loaded.val.ids.tolist())


@pytest.mark.parametrize("name", ["/etc", "../elsewhere", "."])
def test_folders_outside_of_the_set_are_not_followed(name, tmp_path):
    folder = write_yolo(tmp_path / "set", "images/my-{}", names=None)
    (tmp_path / "elsewhere" / "labels").mkdir(parents=True)
    (folder / "data.yaml").write_text(yaml.safe_dump({"train": name, "val": name, "names": list(CLASSES)}))
    assert find_yolo(folder) == (folder / "images", None)


def test_classes_may_be_lines_of_a_text(tmp_path):
    folder = write_yolo(tmp_path, names=None)
    (folder / "classes.txt").write_text("ant\nbee\ncat\n\n")
    assert load_boxed_folder(folder, OPTIONS).train.classes == CLASSES


def test_the_box_around_a_polygon_is_taken(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "val" / "d.txt").write_text("2 0.25 0.25 0.5 0.3 0.4 0.75\n")
    loaded = load_boxed_folder(folder, OPTIONS)
    assert found_in(loaded.val)["d"][2] == [("cat", 10, 10, 20, 30, False)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.5 0.5 0.5", "d.txt (line 1: 0 0.5 0.5 0.5)"),
        ("0 0.5 0.5 0.5 0.5 0.9", "d.txt (line 1: 0 0.5"),
        ("ant 0.5 0.5 0.5 0.5", "d.txt (line 1: ant 0.5"),
        ("0.5 0.5 0.5 0.5 0.5", "d.txt (line 1: 0.5"),
        ("nan 0.5 0.5 0.5 0.5", "d.txt (line 1: nan"),
        ("3 0.5 0.5 0.5 0.5", "with a class that has no name: d.txt line 1 (class 3)"),
        ("-1 0.5 0.5 0.5 0.5", "with a class that has no name: d.txt line 1 (class -1)"),
        ("0 0.9 0.5 0.5 0.5", "outside of its image: images/val/d.jpg line 1 (x 26 to 46, y 10 to 30, image 40x40)"),
        ("0 20 20 10 10", "outside of its image: images/val/d.jpg line 1"),
        ("0 0.5 0.5 0 0.5", "without area: images/val/d.jpg line 1"),
        ("0 nan 0.5 0.5 0.5", "not four finite numbers: images/val/d.jpg line 1"),
        ("\udcff", "d.txt ("),
    ],
)
def test_a_line_that_is_no_object_is_reported(line, problem, tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "val" / "d.txt").write_bytes(line.encode(errors="surrogateescape"))
    assert problem in refusal(folder)


def test_everything_wrong_is_in_one_report(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "labels" / "train" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "images" / "train" / "a.png").write_bytes((folder / "images" / "train" / "a.jpg").read_bytes())
    for name in "de":
        (folder / "labels" / "val" / f"{name}.txt").unlink()
    (folder / "data.yaml").write_text("names: [ant, bee, cat, ant]")
    said = refusal(folder)
    for problem in (
        "has 4 problems",
        "without an image in",
        "gone.txt",
        "1 name of more than one image in",
        "none of the images of",
        "1 name twice in",
    ):
        assert problem in said, (problem, said)


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("names: {0: ant, 2: cat}", "has no names of classes"),
        ("names: 3", "has no names of classes"),
        ("names: [ant, [bee]]", "has no names of classes"),
        ("nc: 3", "has no names of classes"),
        ("names: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        (None, "write data.yaml with names"),
    ],
)
def test_a_table_without_names_is_refused(table, problem, tmp_path):
    folder = write_yolo(tmp_path, names=None)
    if table is not None:
        (folder / "data.yaml").write_text(table)
    assert problem in refusal(folder)


def test_class_folders_of_these_names_are_no_annotations(image_folder):
    folder = image_folder("train", ("images", "labels"))
    (folder / "train" / "labels" / "notes.md").write_text("no annotations")
    assert layout_of(folder) is None
