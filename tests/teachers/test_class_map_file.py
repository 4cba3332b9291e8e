from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.teachers.class_map_file import read_class_map

TEACHER = ("n02123045 tabby", "n02123159 tiger cat", "fire engine, fire truck", "3", "no", "crane", "crane")
DATA = ("cat", "truck", "n02012849 crane")


def read(folder, name, text, teacher=TEACHER):
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return read_class_map(folder / name, teacher, 7, DATA)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("map.csv", 'n02123045 tabby,cat\nn02123159,cat\n"fire engine, fire truck",truck\n5,n02012849 crane\n'),
        ("map.csv", "\ufeffTeacher, Data\r\n\r\n0, cat\r\n1, cat\r\n2, truck\r\n5, n02012849\r\n"),
        ("map.csv", "data,teacher\ncat,0\ncat,1\ntruck,2\nn02012849,5\n"),
        ("map.yaml", "n02123045: cat\nn02123159: cat\nfire engine, fire truck: truck\n5: n02012849\n"),
        ("map.yaml", "cat: [n02123045, n02123159]\ntruck: [2]\nn02012849: [5]\n"),
        ("map.json", '{"cat": ["0", 1], "2": "truck", "5": "n02012849"}'),
    ],
)
def test_every_form_says_the_same(tmp_path, name, text):
    assert read(tmp_path, name, text) == (0, 0, 1, -1, -1, 2, -1)


def test_a_name_comes_before_an_index(tmp_path):
    assert read(tmp_path, "map.csv", "3,cat") == (-1, -1, -1, 0, -1, -1, -1)


def test_unnamed_classes_are_given_by_index(tmp_path):
    assert read(tmp_path, "map.csv", "3,cat\n6,cat", None) == (-1, -1, -1, 0, -1, -1, 0)
    with pytest.raises(
        InputError, match="row 1 names tabby, which is no class of the teacher, whose 7 classes have indices from 0"
    ):
        read(tmp_path, "map.csv", "tabby,cat", None)


def test_the_same_row_twice_is_one(tmp_path):
    assert read(tmp_path, "map.csv", "0,cat\n0,cat") == (0, -1, -1, -1, -1, -1, -1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "map.csv",
            "0,cat\n\nfire engin,truck",
            "row 3 names fire engin, which is no class of the teacher; did you mean",
        ),
        ("map.csv", "0,cat\n1,dog", "row 2 names dog, which is no class of the data; it has"),
        ("map.csv", "source,target\n0,cat", "row 1 names source, which is no class of the teacher"),
        ("map.csv", "0,cat\n1,truck\n0,truck", "row 3 gives the teacher's class 0 to truck, but row 1 gives it to cat"),
        ("map.csv", "0;cat", "row 1 is '0;cat'; write the teacher's class, a comma and the class of the data"),
        ("map.csv", "0,cat\nfire engine, fire truck,truck", "row 2 is .*a name that has a comma in double quotes"),
        ("map.csv", "0,", "row 1 is '0,'; write"),
        ("map.csv", '"0,cat', r"row 1 is not CSV \(.*\): give a .csv file with two columns"),
        ("map.csv", "teacher,data\n", "holds no classes: give a .csv file with two columns, teacher and data"),
        ("map.csv", "crane,cat", "row 1 names crane, a name of several classes of the teacher; .* the index"),
        ("map.yaml", "cat: [0, 9]", "the entry cat names 9, which is no class of the teacher"),
        ("map.yaml", "no: cat", "the entry False names the class False; write class names in quotes"),
        ("map.yaml", "0: cat\n0: truck", r"cannot be read \(0 is there twice"),
        ("map.yaml", "- cat", "is no mapping: give a .csv file"),
        ("map.json", "{", r"cannot be read \(JSONDecodeError"),
        ("map.txt", "0,cat", "give auto, none, or the path of a .csv, .yaml or .json file"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_row(tmp_path, name, text, message):
    with pytest.raises(InputError, match=rf"class_map=.*{name}.*{message}"):
        read(tmp_path, name, text)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"class_map=.*gone.csv cannot be read \(No such file.*give a .csv file"):
        read_class_map(tmp_path / "gone.csv", TEACHER, 7, DATA)
