from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.teachers.ensemble_file import read_ensemble


def write(folder, text):
    path = folder / "both.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_setting_is_read(tmp_path):
    spec = read_ensemble(
        write(tmp_path, "combine: logits\nconfidence: true\nteachers:\n"
              "- {teacher: runs/a, weight: 2, image_size: 128, mean: [0.5], std: [0.25], class_map: none}\n"
              "- {teacher: 'timm:resnet18', pretrained: true, output: probabilities, unmapped: lowest}\n")
    )  # fmt: skip
    assert (spec.combine, spec.confidence) == ("logits", True)
    first, second = spec.teachers
    assert (first.teacher, first.weight, first.image_size, first.mean, first.std) == ("runs/a", 2.0, 128, [0.5], [0.25])
    assert (second.teacher, second.weight, second.pretrained, second.unmapped) == ("timm:resnet18", 1.0, True, "lowest")


def test_probabilities_are_combined_unless_told_otherwise(tmp_path):
    spec = read_ensemble(write(tmp_path, "teachers: [{teacher: a}]"))
    assert (spec.combine, spec.confidence) == ("probabilities", False)


def test_paths_beside_the_file_are_found_from_anywhere(tmp_path):
    (tmp_path / "a.onnx").touch()
    (tmp_path / "map.csv").touch()
    (one,) = read_ensemble(
        write(tmp_path, "teachers: [{teacher: a.onnx, class_map: map.csv, classes: b.txt}]")
    ).teachers
    assert (one.teacher, one.class_map) == (str(tmp_path / "a.onnx"), str(tmp_path / "map.csv"))
    assert one.classes == "b.txt"  # not there: relative to the working directory


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "is no mapping: give teachers, a list, and perhaps combine"),
        ("combine: logits", "teachers is None; give a list of entries, each with a teacher"),
        ("teachers: []", r"teachers is \[\]; give a list"),
        ("teachers: [runs/a]", "teacher 1 is 'runs/a'; give a mapping such as {teacher: runs/a, weight: 2}"),
        ("teachers: [{teacher: a}, {weight: 2}]", "teacher 2: teacher is missing"),
        ("teachers: [{teacher: a, wieght: 2}]", "teacher 1: wieght is no setting; did you mean weight"),
        ("teachers: [{teacher: a, weight: -1}]", "teacher 1: weight=-1.0: give above 0"),
        ("teachers: [{teacher: a, image_size: big}]", "teacher 1: image_size='big': give a whole number"),
        ("combin: logits\nteachers: [{teacher: a}]", "combin is no setting; did you mean combine"),
        ("combine: mean\nteachers: [{teacher: a}]", "combine='mean': give probabilities or logits"),
        ("teachers: [{teacher: a", "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(tmp_path, text, message):
    with pytest.raises(InputError, match=f"teacher=.*both.yaml.*{message}"):
        read_ensemble(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"gone.yaml cannot be read \(No such file"):
        read_ensemble(tmp_path / "gone.yaml")
