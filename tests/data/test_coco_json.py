import json

import pytest

from stillroom.data.boxed_folder import layout_of
from stillroom.data.coco_json import find_coco, list_coco
from stillroom.errors import InputError
from tests.data.boxed_folders import CLASSES, coco_content, write_coco, write_images, write_roboflow


def problems_of(root):
    train, val = list_coco(root, *find_coco(root))
    return [*train.problems, *(val.problems if val is not None else ())]


def test_categories_become_labels_in_the_order_of_their_ids(tmp_path):
    train, val = list_coco(tmp_path, *find_coco(write_coco(tmp_path)))
    assert train.classes == val.classes == CLASSES  # listed backwards, with ids 3, 7 and 12
    assert train.names == [f"train2017/{name}.jpg" for name in "abc"]
    assert train.objects.labels.tolist() == [0, 2, 1, 0]
    assert train.objects.crowd.tolist() == [0, 0, 0, 1]
    assert train.said.tolist() == [[30, 40], [48, 32], [24, 24]]


def test_the_category_above_all_others_is_left_out_only_where_it_has_no_object(tmp_path):
    folder = write_roboflow(tmp_path)
    train, _ = list_coco(folder, *find_coco(folder))
    assert train.classes == CLASSES
    assert "category 0 (animals) is the supercategory of all others and has no objects" in train.notes[0]
    path = folder / "valid" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["category_id"] = 0
    path.write_text(json.dumps(content))
    train, val = list_coco(folder, *find_coco(folder))
    assert train.classes == val.classes == ("animals", *CLASSES)


@pytest.mark.parametrize("where", ["images/train", "train", "images", ""])
def test_the_folder_of_the_images_is_found(where, tmp_path):
    write_images(tmp_path / where, "train")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(coco_content("train")))
    train, val = list_coco(tmp_path, *find_coco(tmp_path))
    assert all((tmp_path / name).is_file() for name in train.names)
    assert val is None


def test_one_file_for_all_images(tmp_path):
    write_images(tmp_path / "images", "train")
    (tmp_path / "annotations.json").write_text(json.dumps(coco_content("train")))
    assert layout_of(tmp_path) == "coco"
    train, val = list_coco(tmp_path, *find_coco(tmp_path))
    assert (len(train.names), val) == (3, None)


def test_several_files_for_one_split_are_refused(tmp_path):
    folder = write_coco(tmp_path)
    (folder / "annotations" / "instances_train2014.json").write_text("{}")
    with pytest.raises(InputError, match=r"several annotations for train \(instances_train2014.json, instances_train2"):
        layout_of(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "cannot be read"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "has no list of objects 'images'"),
        ('{"images": [], "annotations": [1], "categories": []}', "has no list of objects 'annotations'"),
        ('{"images": [], "images": [], "annotations": [], "categories": []}', "images is there twice"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_problem_each(content, problem, tmp_path):
    folder = write_coco(tmp_path)
    path = folder / "annotations" / "instances_train2017.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    found = problems_of(folder)
    assert any(str(path) in one and problem in one for one in found)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"id": 9, "file_name": "/etc/passwd"}, "not a path inside the set: /etc/passwd"),
        ({"id": 9, "file_name": "a/../../b.jpg"}, "not a path inside the set"),
        ({"id": 9, "file_name": "C:\\b.jpg"}, "not a path inside the set"),
        ({"id": 9, "file_name": "\ud800.jpg"}, "not a path inside the set"),
        ({"id": 10**30, "file_name": "b.jpg"}, "without an id and a file_name"),
        ({"id": True, "file_name": "b.jpg"}, "without an id and a file_name"),
        ({"id": 9, "file_name": ["b.jpg"]}, "without an id and a file_name"),
    ],
)
def test_hostile_images_are_refused(entry, problem, tmp_path):
    def change(split, content):
        content["images"] += [entry] if split == "train" else []
        return content

    (found,) = problems_of(write_coco(tmp_path, change))
    assert problem in found


@pytest.mark.parametrize(
    "change",
    [{"bbox": [1, 2, 3, "4"]}, {"bbox": [1e999, 0, 1, 1]}, {"bbox": [0, 0, 10**400, 1]}, {"bbox": None}, {"id": "7"}],
)
def test_hostile_annotations_are_refused(change, tmp_path):
    from stillroom.data.boxed_folder import BoxOptions, load_boxed_folder

    def changed(split, content):
        content["annotations"][0] |= change
        return content

    with pytest.raises(InputError, match=r"four (finite )?numbers"):
        load_boxed_folder(write_coco(tmp_path, changed), BoxOptions(32, 53))


def test_two_categories_of_one_id_or_name_are_refused(tmp_path):
    def change(split, content):
        if split == "train":
            content["categories"] += [{"id": 3, "name": "dog"}, {"id": 20, "name": "bee"}, {"id": 21}]
        return content

    found = " ".join(problems_of(write_coco(tmp_path, change)))
    assert "1 category id there twice: 3" in found
    assert "1 category name there twice: bee" in found
    assert "1 entry of categories without an id and a name" in found
