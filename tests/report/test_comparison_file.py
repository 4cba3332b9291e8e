from __future__ import annotations

from pathlib import Path

import pytest

from stillroom.errors import InputError
from stillroom.report.comparison_file import NamedMethod, named_method, read_description, write_description


@pytest.mark.parametrize(("text", "match"), [
    ("[1]", "does not describe"), ("a: [", "cannot be read"), ("methods: kd", "write methods as label: value"),
    ("title: [1]", "is not text"), ("methods: {a: {lr: 1}}", "say which method it is"),
])  # fmt: skip
def test_a_broken_description_is_refused(tmp_path, text, match):
    (tmp_path / "comparison.yaml").write_text(text)
    with pytest.raises(InputError, match=match):
        read_description(tmp_path)


def test_without_a_file_the_description_is_empty(tmp_path):
    got = read_description(tmp_path)
    assert (got.title, got.reference, got.methods, got.teachers, got.students) == ("", "", {}, {}, {})


def test_what_is_written_is_read_and_a_later_change_is_noticed(tmp_path):
    named = {"slow": NamedMethod("kd", {"lr": 0.01}).content, "KD": NamedMethod("kd").content}
    write_description(tmp_path, {"title": "T", "methods": named, "teachers": {"big": "runs/t"}, "jobs": 3})
    got = read_description(tmp_path)
    assert got.title == "T"
    assert got.methods == {"slow": NamedMethod("kd", {"lr": 0.01}), "KD": NamedMethod("kd")}
    write_description(tmp_path, {"title": "Another"})
    assert read_description(tmp_path).title == "Another"


def test_of_several_labels_the_one_with_most_settings_holds():
    methods = {"KD": named_method("kd"), "slow": named_method({"method": "kd", "lr": 0.01})}
    description = read_description(Path("nowhere"))
    description = type(description)(methods=methods)
    assert description.method_label({"method": "kd", "lr": 0.01}) == "slow"
    assert description.method_label({"method": "kd", "lr": 0.05}) == "KD"
    assert description.method_label({"method": "dkd"}) is None


def test_a_teacher_has_its_name_by_place_too(tmp_path):
    description = type(read_description(tmp_path))(teachers={"big": "teacher"})
    assert description.teacher_label("gone/teacher", tmp_path / "teacher", tmp_path) == "big"
    assert description.teacher_label("gone/teacher", None, tmp_path) is None
