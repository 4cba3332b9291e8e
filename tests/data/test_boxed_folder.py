import numpy as np
import pytest
import torch
from PIL import Image

from stillroom.data.boxed_folder import BoxOptions, layout_of, load_boxed_folder
from stillroom.errors import InputError
from tests.data.boxed_folders import (
    CLASSES,
    expected,
    found_in,
    write_coco,
    write_roboflow,
    write_voc,
    write_yolo,
)

OPTIONS = BoxOptions(image_size=32, max_size=53)
WRITERS = {
    "coco": write_coco,
    "roboflow": write_roboflow,
    "voc": write_voc,
    "yolo": write_yolo,
    "yolo-roboflow": lambda root: write_yolo(root, "{}/images"),
}


def refusal(folder, **options):
    with pytest.raises(InputError) as caught:
        load_boxed_folder(folder, BoxOptions(32, 53, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_gives_the_same_boxes(kind, tmp_path):
    folder = WRITERS[kind](tmp_path)
    assert layout_of(folder) == {"roboflow": "coco", "yolo-roboflow": "yolo"}.get(kind, kind)
    loaded = load_boxed_folder(folder, OPTIONS)
    crowds = not kind.startswith("yolo")
    for split, source in (("train", loaded.train), ("val", loaded.val)):
        assert source.classes == CLASSES
        assert found_in(source, crowds) == expected(split, crowds)
        assert (source.image_size, source.max_size) == (32, 53)
    assert loaded.broken == ()
    assert any("1 image of" in note and "without an object" in note for note in loaded.notes)
    assert "1 class without a validation object: ant" in loaded.notes


def test_layouts_without_a_validation_split_hold_images_out(tmp_path):
    folder = write_voc(tmp_path, splits=False)
    train, val, _, _ = load_boxed_folder(folder, BoxOptions(32, 53, val_fraction=0.4))
    found = found_in(train) | found_in(val)
    assert found == expected("train") | expected("val")
    assert len(train)
    assert len(val)
    again = load_boxed_folder(folder, BoxOptions(32, 53, val_fraction=0.4))
    assert again.val.fingerprint == val.fingerprint
    assert torch.equal(torch.cat((train.ids, val.ids)).sort().values, torch.arange(5))


def test_other_folders_have_no_layout(image_folder):
    folder = image_folder(classes=("annotations", "images", "labels"))
    assert layout_of(folder) is None
    assert "has no boxes in a known layout" in refusal(folder)


def damaged_coco(root):
    def change(split, content):
        if split == "train":
            first = dict(content["annotations"][0])
            content["images"] += [
                {"id": 100, "file_name": "again.jpg"},
                {"id": 7, "file_name": "a.jpg"},
                {"id": 8, "file_name": "../../etc/passwd"},
                {"id": 9, "file_name": "gone.jpg"},
                {"id": 10},
            ]
            content["annotations"] += [
                first,
                first | {"id": 50, "image_id": 999},
                first | {"id": 51, "category_id": 4},
                first | {"id": 52, "bbox": [35, 3, 10, 10]},
                first | {"id": 53, "bbox": [5, 5, 0, 10]},
                first | {"id": 54, "bbox": [float("nan"), 5, 3, 10]},
                first | {"id": 55, "bbox": [1, 2, 3]},
            ]
            content["images"][2]["width"] = 25
        else:
            content["categories"][0]["name"] = "dog"
        return content

    return write_coco(root, change)


def test_everything_wrong_with_coco_is_in_one_report(tmp_path):
    said = refusal(damaged_coco(tmp_path))
    for problem in (
        "has 12 problems: (1)",
        "1 image id there twice: 100",
        "1 file_name there twice: a.jpg",
        "1 file_name that is not a path inside the set: ../../etc/passwd",
        "1 entry of images without an id and a file_name: {'id': 10}",
        "1 annotation id there twice: 1;",
        "1 annotation of an image that is not listed: annotation 50 (image_id 999)",
        "1 annotation of an unknown category: annotation 51 (category_id 4)",
        "1 annotation without an id, a bbox of four numbers",
        "1 of 5 images cannot be read: train2017/gone.jpg (missing)",
        "c.jpg (annotated as 25x24, is 24x24)",
        "1 object with a box outside of its image: train2017/a.jpg annotation 52 (x 35 to 45, y 3 to 13, image 40x30)",
        "1 object with a box without area: train2017/a.jpg annotation 53",
        "1 object with a box that is not four finite numbers: train2017/a.jpg annotation 54",
        "classes of the two splits differ (cat only in",
    ):
        assert problem in said, (problem, said)


def test_faulty_objects_may_be_left_out(tmp_path):
    def change(split, content):
        content["annotations"] += [content["annotations"][0] | {"id": 53, "bbox": [5, 5, 0, 10]}]
        return content

    folder = write_coco(tmp_path, change)
    assert "or leave them out with skip_broken=0.2" in refusal(folder)
    loaded = load_boxed_folder(folder, BoxOptions(32, 53, skip_broken=0.34))
    assert found_in(loaded.train) == expected("train")
    assert any(note.startswith("left out: 1 object with a box without area") for note in loaded.notes)


def test_boxes_that_overhang_by_a_pixel_are_clipped(tmp_path):
    def change(split, content):
        if split == "train":
            content["annotations"][1]["bbox"] = [19.5, 10, 21.5, 20.75]
        return content

    loaded = load_boxed_folder(write_coco(tmp_path, change), OPTIONS)
    assert found_in(loaded.train)["a"][2][1] == ("cat", 19.5, 10, 40, 30, False)
    assert any("1 box of" in note and "clipped" in note for note in loaded.notes)


def test_an_image_turned_by_its_metadata_is_reported_where_the_annotations_are_not(tmp_path):
    folder = write_coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    path = folder / "train2017" / "a.jpg"
    with Image.open(path) as image:
        image.save(path, exif=exif)
    assert "a.jpg (annotated as 40x30, is 30x40); apply the orientation" in refusal(folder)


def test_images_that_cannot_be_read_may_be_skipped(tmp_path):
    folder = write_yolo(tmp_path)
    (folder / "images" / "train" / "b.jpg").write_bytes(b"no image")
    assert "1 of 3 images cannot be read: images/train/b.jpg (not an image)" in refusal(folder)
    loaded = load_boxed_folder(folder, BoxOptions(32, 53, skip_broken=0.4))
    assert loaded.broken == ("images/train/b.jpg",)
    assert set(found_in(loaded.train)) == {"a", "c"}
    assert loaded.train.ids.tolist() == [0, 2]


def test_sizes_come_from_the_files_and_follow_them(tmp_path):
    folder = write_yolo(tmp_path)
    before = load_boxed_folder(folder, OPTIONS).train
    path = folder / "images" / "train" / "a.jpg"
    path.unlink()  # a file that is written in place is noticed when it is read, as for images without boxes
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(path)
    after = load_boxed_folder(folder, OPTIONS).train
    assert before.sizes[0].tolist() == [30, 40]
    assert after.sizes[0].tolist() == [60, 80]
    assert torch.allclose(after.objects[0].boxes, 2 * before.objects[0].boxes, atol=1e-3)
    assert before.fingerprint != after.fingerprint


def test_a_set_without_images_or_classes_is_refused(tmp_path):
    def empty(split, content):
        return {part: [] for part in content}

    said = refusal(write_coco(tmp_path, empty))
    assert "lists no images" in said
    assert "has no classes" in said


def test_one_image_cannot_be_split(tmp_path):
    folder = write_yolo(tmp_path)
    for name in ("images/val", "labels/val"):
        (folder / name).rename(folder / name.replace("/", "-"))
    for name in ("a.jpg", "b.jpg"):
        (folder / "images" / "train" / name).unlink()
        (folder / "labels" / "train" / name.replace("jpg", "txt")).unlink()
    (folder / "labels" / "train" / "c.txt").write_text("")
    assert "has one image, which cannot be split" in refusal(folder)
