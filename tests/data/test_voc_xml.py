import pytest

from stillroom.data.boxed_folder import BoxOptions, load_boxed_folder
from stillroom.data.voc_xml import find_voc, list_voc
from stillroom.errors import InputError
from tests.data.boxed_folders import expected, found_in, voc_xml, write_voc

OPTIONS = BoxOptions(32, 53)


def refusal(folder):
    with pytest.raises(InputError) as caught:
        load_boxed_folder(folder, OPTIONS)
    return str(caught.value)


def test_pixels_counted_from_one_become_edges(tmp_path):
    folder = write_voc(tmp_path)
    first_pixel = ("ant", 0, 0, 1, 1, False)
    (folder / "Annotations" / "c.xml").write_text(voc_xml("c", 24, 24, [first_pixel]))
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>1</xmax><ymax>1</ymax>" in (folder / "Annotations/c.xml").read_text()
    assert found_in(load_boxed_folder(folder, OPTIONS).train)["c"][2] == [first_pixel]


def test_a_box_from_zero_as_other_tools_write_it_is_clipped(tmp_path):
    folder = write_voc(tmp_path)
    (folder / "Annotations" / "c.xml").write_text(voc_xml("c", 24, 24, [("ant", -1, -1, 24, 24, False)]))
    assert found_in(load_boxed_folder(folder, OPTIONS).train)["c"][2] == [("ant", 0, 0, 24, 24, False)]


def test_the_folder_below_the_development_kit_is_found(tmp_path):
    write_voc(tmp_path / "VOCdevkit" / "VOC2012")
    assert find_voc(tmp_path) == tmp_path / "VOCdevkit" / "VOC2012"
    loaded = load_boxed_folder(tmp_path, OPTIONS)
    assert found_in(loaded.train) == expected("train")
    (tmp_path / "VOCdevkit" / "VOC2007" / "Annotations").mkdir(parents=True)
    (tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir()
    with pytest.raises(InputError, match="has VOC2007 and VOC2012; give the folder of one"):
        find_voc(tmp_path)


def test_trainval_and_test_are_the_splits_where_train_and_val_are_not(tmp_path):
    folder = write_voc(tmp_path)
    main = folder / "ImageSets" / "Main"
    (main / "train.txt").rename(main / "trainval.txt")
    (main / "val.txt").rename(main / "test.txt")
    train, val = list_voc(folder, folder)
    assert [len(train.names), len(val.names)] == [3, 2]


def test_a_line_may_say_more_than_the_name(tmp_path):
    folder = write_voc(tmp_path)
    (folder / "ImageSets" / "Main" / "val.txt").write_text("d  1\n\ne -1\n")
    assert found_in(load_boxed_folder(folder, OPTIONS).val) == expected("val")


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)
OUTSIDE = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation>&e;</annotation>'
BOX = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>4</xmax></bndbox>"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (LAUGHS, "it declares a document type"),
        (OUTSIDE, "it declares a document type"),
        ("<annotation>", "no element found"),
        ("", "no element found"),
        ("\udcff", "utf-8"),
        ("<annotation><object></object></annotation>", "an object without a name"),
        (f"<annotation><object><name>ant</name>{BOX}</object></annotation>", "object ant without four numbers"),
        (None, "missing"),
    ],
    ids=["laughs", "outside", "cut", "empty", "bytes", "name", "box", "missing"],
)
def test_annotations_that_cannot_be_read_are_one_problem(content, problem, tmp_path):
    folder = write_voc(tmp_path)
    path = folder / "Annotations" / "a.xml"
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode(errors="surrogateescape"))
    said = refusal(folder)
    assert "1 file of" in said
    assert problem in said


def test_everything_wrong_is_in_one_report(tmp_path):
    folder = write_voc(tmp_path)
    (folder / "Annotations" / "a.xml").write_text(voc_xml("a", 40, 30, [("ant", 30, 3, 44, 13, False)]))
    (folder / "Annotations" / "b.xml").write_text(voc_xml("b", 32, 48, [("bee", 9, 9, 9, 16, False)]))
    (folder / "Annotations" / "c.xml").write_text(voc_xml("c", 48, 48, [("cat", float("nan"), 1, 5, 5, False)]))
    (folder / "Annotations" / "d.xml").write_text(voc_xml("d", 40, 40, [("dog", 1, 1, 5, 5, False)]))
    (folder / "JPEGImages" / "e.jpg").unlink()
    (folder / "ImageSets" / "Main" / "train.txt").write_text("a\nb\nc\nb\n../c\n")
    said = refusal(folder)
    for problem in (
        "1 object with a box outside of its image: JPEGImages/a.jpg object 1 (x 30 to 44, y 3 to 13, image 40x30)",
        "objects with a box without area: JPEGImages/b.jpg object 1",
        "1 object with a box that is not four finite numbers: JPEGImages/c.jpg object 1",
        "JPEGImages/c.jpg (annotated as 48x48, is 24x24)",
        "1 class only in",
        "1 of 2 images cannot be read: JPEGImages/e.jpg (missing)",
        "1 image with two lines in",
        "c.xml (its name is a path)",
    ):
        assert problem in said, (problem, said)
