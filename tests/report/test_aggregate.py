from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.aggregate import read_comparison
from tests.report.box_runs import made_box_runs
from tests.report.conftest import SMALL


def made_run(folder, name, *, finished=True, inputs=None, **settings):
    """A run folder with the files that grouping reads, and nothing else."""
    path = folder / name
    path.mkdir(parents=True)
    if "model" not in settings:
        settings = {"teacher": "t", "student": "resnet20", "method": "kd", **settings}
    config = {"data": "glyphs100", "epochs": 4, "seed": 0, "image_size": None, **settings}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    known = {"classes": ["a", "b"], "train_images": 9, "val_images": 5, "image_shape": [3, 8, 8]}
    known["teacher_weights"] = None if "model" in settings else f"weights of {settings['teacher']}"
    (path / "inputs.json").write_text(json.dumps(known | (inputs or {})))
    row = {"epoch": 4, "val_top1": 50.0, "val_loss": 1.0, "loss": 1.0}
    (path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    if finished:
        (path / "summary.json").write_text(json.dumps({"last": row, "best": row, "parameters": 1, "seconds": 1.0}))
    return path


def cells(pair):
    return [(cell.method, cell.seed, cell.run.path.name) for cell in pair.cells]


def test_a_folder_of_runs_becomes_a_pair_with_its_teacher(trained_comparison):
    got = read_comparison([trained_comparison])
    (pair,) = got.pairs
    assert (pair.teacher, pair.student, pair.name) == ("medium", "small", "medium → small")
    assert pair.teacher_run == RunFolder(trained_comparison / "teacher")
    assert cells(pair) == [
        ("labels only", 0, "ce-s0"),
        ("labels only", 1, "ce-s1"),
        ("kd", 0, "kd-s0"),
        ("kd", 1, "kd-s1"),
        ("ldrld(depth=3)", 0, "ldrld-s0"),
    ]
    assert pair.methods == ("labels only", "kd", "ldrld(depth=3)")
    assert [cell.seed for cell in pair.runs("kd")] == [0, 1]
    assert pair.runs("dkd") == ()
    assert (got.reference, got.unfinished, got.title) == ("kd", (), "Distillation on images")


def test_a_description_gives_labels_order_names_title_and_reference(runs):
    described = {
        "title": "Glyphs", "reference": "KD",
        "methods": {"LDRLD": "ldrld(depth=3)", "KD": "kd", "CE": "ce"},
        "teachers": {"big": RunFolder(runs / "kd-s0").config()["teacher"]},
        "students": [SMALL], "seeds": [0, 1], "settings": {"epochs": 2},
    }  # fmt: skip
    (runs / "comparison.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    got = read_comparison([runs])
    assert (got.title, got.reference, got.pairs[0].methods) == ("Glyphs", "KD", ("LDRLD", "KD", "CE"))
    assert got.pairs[0].teacher == "big"
    asked = read_comparison([runs], reference="ce", title="Mine")
    assert (asked.title, asked.reference) == ("Mine", "CE")


def test_one_method_with_two_rates_is_two_methods_where_the_description_names_them(tmp_path):
    for name, rate in (("a", 0.05), ("b", 0.01)):
        made_run(tmp_path, name, lr=rate)
    with pytest.raises(InputError, match="the same method"):
        read_comparison([tmp_path])
    described = {"methods": {"slow": {"method": "kd", "lr": 0.01}, "KD": "kd"}}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    assert cells(read_comparison([tmp_path]).pairs[0]) == [("slow", 0, "b"), ("KD", 0, "a")]


def test_pairs_stand_in_the_order_of_the_description_under_its_names(tmp_path):
    for place, (teacher, student) in enumerate([("t2", "m:s"), ("t1", "m:s"), ("t1", "m:r"), ("t2", "m:r")]):
        made_run(tmp_path, str(place), teacher=teacher, student=student)
    described = {"teachers": {"one": "t1", "two": "t2"}, "students": {"R": "m:r", "S": "m:s"}}
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    assert [pair.name for pair in read_comparison([tmp_path]).pairs] == ["one → R", "one → S", "two → R", "two → S"]
    (tmp_path / "comparison.yaml").write_text("students: ['m:r', 'm:s']")
    assert [pair.student for pair in read_comparison([tmp_path]).pairs] == ["r", "r", "s", "s"]


def test_a_teacher_is_no_student_even_before_its_first_student_begins(tmp_path):
    made_run(tmp_path, "a", teacher="resnet56")
    made_run(tmp_path, "own", model="resnet110")
    (tmp_path / "comparison.yaml").write_text(yaml.safe_dump({"teachers": {"deep": "own"}}))
    assert [pair.name for pair in read_comparison([tmp_path]).pairs] == ["resnet56 → resnet20"]


def test_pairs_are_told_apart_by_teacher_and_student(tmp_path):
    made_run(tmp_path, "a", teacher="resnet56", student="resnet20")
    made_run(tmp_path, "b", teacher="timm:resnet18", student="resnet20")
    made_run(tmp_path, "c", teacher="resnet56", student="resnet32")
    names = [pair.name for pair in read_comparison([tmp_path]).pairs]
    assert names == ["resnet56 → resnet20", "resnet18 → resnet20", "resnet56 → resnet32"]


def test_teachers_and_students_of_the_same_name_are_called_differently(tmp_path):
    for name in ("one", "two"):
        made_run(tmp_path, name, model="resnet56")
        made_run(tmp_path, f"from-{name}", teacher=str(tmp_path / name))
    names = [pair.name for pair in read_comparison([tmp_path]).pairs]
    assert names == ["resnet56 (one) → resnet20", "resnet56 (two) → resnet20"]
    other = tmp_path / "students"
    made_run(other, "a", student="mine.a:net")
    made_run(other, "b", student="mine.b:net")
    assert [pair.student for pair in read_comparison([other]).pairs] == ["mine.a:net", "mine.b:net"]


def test_a_student_trained_on_labels_stands_beside_every_pair_it_belongs_to(tmp_path):
    made_run(tmp_path, "a", teacher="x")
    made_run(tmp_path, "b", teacher="y")
    made_run(tmp_path, "plain", model="resnet20")
    got = read_comparison([tmp_path])
    assert [pair.methods for pair in got.pairs] == [("labels only", "kd")] * 2


def test_runs_on_labels_alone_are_a_pair_without_teacher(tmp_path):
    made_run(tmp_path, "a", model="resnet20", seed=1)
    (pair,) = read_comparison([tmp_path]).pairs
    assert (pair.name, pair.methods, pair.teacher_run) == ("no teacher → resnet20", ("labels only",), None)


def test_unfinished_runs_are_listed_and_left_out(tmp_path):
    made_run(tmp_path, "a")
    made_run(tmp_path, "b", seed=1, finished=False)
    got = read_comparison([tmp_path])
    assert got.unfinished == ("b",)
    assert cells(got.pairs[0]) == [("kd", 0, "a")]


def test_where_nothing_is_finished_it_is_said(tmp_path):
    made_run(tmp_path, "a", finished=False)
    with pytest.raises(InputError, match="no student's run is finished"):
        read_comparison([tmp_path])


def test_an_unfinished_teacher_is_no_teacher_run(tmp_path):
    made_run(tmp_path, "own", model="resnet56", finished=False)
    made_run(tmp_path, "a", teacher=str(tmp_path / "own"))
    got = read_comparison([tmp_path])
    assert (got.pairs[0].teacher, got.pairs[0].teacher_run, got.unfinished) == ("resnet56", None, ("own",))


@pytest.mark.parametrize(("change", "match"), [
    ({"epochs": 8}, r"epochs differs \(4 and 8\)"),
    ({"data": "cifar100"}, r"data differs \('glyphs100' and 'cifar100'\)|data differs"),
    ({"inputs": {"classes": ["a", "c"]}}, "classes differs"),
    ({"inputs": {"val_images": 6}}, r"val_images differs \(5 and 6\)"),
    ({"inputs": {"train_images": 6}}, "train_images differs"),
    ({"student_pretrained": True}, "the student's first weights differs"),
])  # fmt: skip
def test_a_run_that_cannot_be_compared_is_left_out_and_listed_with_its_accuracy(tmp_path, change, match):
    made_run(tmp_path, "a")
    made_run(tmp_path, "b", method="dkd", **change)
    (pair,) = read_comparison([tmp_path]).pairs
    assert cells(pair) == [("kd", 0, "a")]
    (one,) = pair.left_out
    assert (one.name, one.method, one.seed, one.score) == ("b", "dkd", 0, 50.0)
    assert re.search(match, one.sentence)
    assert "\n" not in one.sentence


def test_most_of_the_runs_decide_what_is_compared(tmp_path):
    made_run(tmp_path, "a", epochs=1)
    for name in ("b", "c"):
        made_run(tmp_path, name, method="ce", seed=ord(name), epochs=2)
    assert [cell.run.path.name for cell in read_comparison([tmp_path]).pairs[0].cells] == ["b", "c"]


def contents(validation="v", training="t"):
    return {"identity": {"data": {"training images": training, "validation images": validation}}}


def test_the_contents_of_a_set_decide_and_not_what_its_folder_is_called(tmp_path):
    made_run(tmp_path, "a", data="photos", inputs=contents())
    made_run(tmp_path, "b", data="copy", method="dkd", inputs=contents())
    made_run(tmp_path, "c", data="photos", method="rkd", inputs=contents(validation="other"))
    (pair,) = read_comparison([tmp_path]).pairs
    assert cells(pair) == [("kd", 0, "a"), ("dkd", 0, "b")]
    assert "c with seed 0" not in pair.left_out[0].sentence
    assert "rkd with seed 0 (c) is left out of all numbers: it cannot be compared with a" in pair.left_out[0].sentence


@pytest.mark.parametrize(("file", "text", "why"), [
    ("metrics.jsonl", '{"epoch": 1}\n{"ep', "metrics.jsonl cannot be read"),
    ("metrics.jsonl", "", "holds no epoch"),
    ("metrics.jsonl", '{"val_loss": NaN, "val_top1": 25.0}', "it diverged (val_loss is nan"),
    ("metrics.jsonl", '{"val_loss": null}', "it diverged (val_loss is None"),
    ("summary.json", "{", "summary.json cannot be read"),
    ("summary.json", "{}", "no last val_top1"),
    ("config.yaml", "a: [", "config.yaml cannot be read"),
])  # fmt: skip
def test_a_run_that_diverged_or_is_damaged_costs_no_other(tmp_path, file, text, why):
    made_run(tmp_path, "a")
    (made_run(tmp_path, "b", method="dkd") / file).write_text(text)
    got = read_comparison([tmp_path])
    assert cells(got.pairs[0]) == [("kd", 0, "a")]
    (one,) = (*got.left_out, *got.pairs[0].left_out)
    assert why in one.sentence
    with pytest.raises(InputError, match="no run is left to report"):
        read_comparison([tmp_path / "b"])


def test_different_pairs_need_not_be_alike(tmp_path):
    made_run(tmp_path, "a", student="resnet20")
    made_run(tmp_path, "b", student="resnet32", epochs=9)
    assert len(read_comparison([tmp_path]).pairs) == 2


def test_two_runs_of_one_method_and_seed_are_refused(tmp_path):
    made_run(tmp_path, "a")
    made_run(tmp_path, "b")
    with pytest.raises(InputError, match=r"a and .*b are the same method \(kd\) with the same seed \(0\)"):
        read_comparison([tmp_path])


@pytest.mark.parametrize(("methods", "asked", "reference"), [
    (("ce", "dkd", "kd"), None, "kd"),
    (("dkd", "ce"), None, "labels only"),
    (("dkd", "rld"), None, "dkd"),
    (("ce", "dkd", "kd"), "dkd", "dkd"),
    (("dkd", "ce", "kd"), "ce", "labels only"),
])  # fmt: skip
def test_the_reference_is_what_is_asked_for_else_kd_else_labels_only(tmp_path, methods, asked, reference):
    for method in methods:
        made_run(tmp_path, method, method=method)
    assert read_comparison([tmp_path], reference=asked).reference == reference


def test_a_reference_that_no_run_has_is_refused(tmp_path):
    made_run(tmp_path, "a")
    with pytest.raises(InputError, match=r"reference=rkd: no finished run has this method; there are kd"):
        read_comparison([tmp_path], reference="rkd")


def test_a_moved_comparison_is_read_as_before(runs, tmp_path):
    described = {"teachers": {"big": "teacher"}, "methods": {"KD": "kd"}}
    (runs / "comparison.yaml").write_text(yaml.safe_dump(described))
    there = shutil.move(runs, tmp_path / "moved")
    for path in there.glob("*-s*/config.yaml"):
        path.write_text(path.read_text().replace(yaml.safe_load(path.read_text())["teacher"], "gone/teacher"))
    (pair,) = read_comparison([there]).pairs
    assert pair.teacher == "big"
    assert (pair.teacher_run, len(pair.cells)) == (RunFolder(there / "teacher"), 5)


def test_runs_of_another_task_than_most_have_are_left_out_with_the_reason(tmp_path):
    made_box_runs(tmp_path, ("kd", "ldrld"), seeds=1)
    made_run(tmp_path, "classifier", method="dkd")
    made_run(tmp_path, "odd", task="auto")
    comparison = read_comparison([tmp_path])
    assert [pair.methods for pair in comparison.pairs] == [("kd", "ldrld")]
    assert comparison.pairs[0].score.label == "AP"
    left_out = {one.name: one for one in comparison.left_out}
    assert "it is a run of classification, and most are of detection" in left_out["classifier"].why
    assert left_out["classifier"].score == 50.0
    assert "task=auto" in left_out["odd"].why
