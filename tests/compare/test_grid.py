from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from stillroom.compare.grid import make_grid
from stillroom.compare.grid_record import joined_record, write_record
from stillroom.compare.options import CompareOptions
from stillroom.errors import InputError
from stillroom.report.comparison_file import read_description


def grid_of(tmp_path, settings=None, **changed):
    options = {"teachers": "resnet56", "students": "resnet20,resnet8", "methods": "kd,ldrld,fitnet", "seeds": 2}
    common = {"data": "glyphs100", "runs": str(tmp_path), "name": "c", "epochs": 8, **(settings or {})}
    return make_grid(CompareOptions(**{**options, **changed}), common)


def test_every_combination_is_one_cell_and_the_teacher_comes_first(tmp_path):
    teacher, *students = grid_of(tmp_path).cells
    assert (teacher.command, teacher.settings["model"], teacher.waits_for) == ("train", "resnet56", "")
    assert len(students) == 2 * 3 * 2
    assert len({cell.name for cell in students}) == len(students)
    assert all(cell.waits_for == teacher.name for cell in students)
    assert {cell.recipe.models.teacher for cell in students} == {str(tmp_path / "c" / teacher.name)}
    assert [cell.settings["seed"] for cell in students] == [0] * 6 + [1] * 6


def test_runs_share_a_part_of_the_bank_when_they_need_the_same_logits(tmp_path):
    cells = grid_of(tmp_path, methods="ce,kd,ldrld,fitnet,mlkd", students="resnet20", seeds=2).cells[1:]
    parts = {(cell.method, cell.settings["seed"]): cell.fills for cell in cells}
    assert parts["kd", 0] == parts["ldrld", 0] != parts["kd", 1]
    assert parts["ce", 0] == parts["fitnet", 0] == ()
    assert parts["mlkd", 0] not in (parts["kd", 0], ())  # it asks for the strong view too


def test_a_method_with_its_own_augmentation_needs_its_own_part_of_the_bank(tmp_path):
    methods = {
        "kd": "kd",
        "same": "ldrld",
        "slow": {"method": "kd", "lr": 0.01},
        "erased": {"method": "kd", "erase": 0.5},
    }
    cells = {cell.method: cell for cell in grid_of(tmp_path, methods=methods, students="resnet20", seeds=1).cells[1:]}
    assert cells["kd"].fills == cells["same"].fills == cells["slow"].fills != cells["erased"].fills
    assert [cells[name].recipe.data.erase for name in ("kd", "erased")] == [None, 0.5]


def test_only_students_are_shown_repeated_views(tmp_path):
    teacher, *students = grid_of(tmp_path, {"repeat_views": 2}).cells
    assert teacher.recipe.run.repeat_views is None
    assert {cell.recipe.run.repeat_views for cell in students} == {2}


def test_a_teacher_with_weights_is_not_trained(tmp_path):
    own = tmp_path / "mine"
    own.mkdir()
    (own / "config.yaml").write_text("{}")
    for teacher, changed in (
        (str(own), {}),
        ("timm:resnet18", {"teacher_pretrained": True}),
        ("package.module:function", {"teacher_epochs": 0}),
        ("resnet56", {"teacher_checkpoint": "weights.pt"}),
    ):
        cells = grid_of(tmp_path, teachers=teacher, **changed).cells
        assert {cell.command for cell in cells} == {"distill"}
        assert {cell.settings["teacher"] for cell in cells} == {teacher}
    assert cells[0].settings["teacher_checkpoint"] == "weights.pt"


@pytest.mark.parametrize("teacher", ["net.onnx", "http://host/v2/models/net"])
def test_a_teacher_in_a_file_or_behind_a_server_is_taken_as_it_is(tmp_path, teacher):
    settings = {"class_map": "none", "teacher_mean": [0.5] * 3, "teacher_std": [0.5] * 3}
    cells = grid_of(tmp_path, settings, teachers=teacher, methods="kd", students="resnet20", seeds=1).cells
    (cell,) = cells
    assert cell.recipe.models.teacher == teacher
    assert cell.recipe.teacher.class_map == "none"


def test_the_settings_of_the_teachers_input_are_not_those_of_its_training(tmp_path):
    teacher, student = grid_of(tmp_path, {"teacher_image_size": 64}, methods="kd", students="resnet20", seeds=1).cells
    assert "teacher_image_size" not in teacher.settings
    assert student.recipe.teacher.teacher_image_size == 64


def test_the_teacher_has_its_own_length_and_not_the_students_milestones(tmp_path):
    teacher, student = grid_of(tmp_path, {"milestones": [4, 6]}, teacher_epochs=20).cells[:2]
    assert (teacher.epochs, student.epochs) == (20, 8)
    assert teacher.recipe.optim.milestones == [12, 15, 18]
    assert student.recipe.optim.milestones == [4, 6]
    assert teacher.recipe.optim.schedule == student.recipe.optim.schedule == "milestones"
    teacher, student = grid_of(tmp_path, teacher_epochs=20).cells[:2]
    assert teacher.recipe.optim.schedule == student.recipe.optim.schedule == "onecycle"


@pytest.mark.parametrize(
    ("changed", "settings", "said"),
    [
        ({"methods": "kd,nonsense"}, {}, "nonsense"),
        ({"reference": "dkd"}, {}, "reference=dkd"),
        ({"teachers": "a/b"}, {}, "teachers=a/b"),
        ({"teachers": "resnet56,resnet110", "teacher_checkpoint": "w.pt"}, {}, "teacher_checkpoint=w.pt"),
        ({"methods": {"a": "kd", "b": {"method": "kd", "lr": 0.1}}}, {}, "b-s0 are the same run"),
        ({"methods": {"a": {"method": "kd", "lr": -1}}}, {}, "lr=-1"),
        ({"jobs": 0}, {}, "jobs=0"),
        ({"retries": -1}, {}, "retries=-1"),
        ({"teacher_epochs": -2}, {}, "teacher_epochs=-2"),
        ({}, {"epochs": 0}, "epochs=0"),
        ({}, {"name": "../c"}, "name=../c"),
        ({}, {"lr": -1.0}, "lr=-1"),
    ],
)
def test_what_cannot_work_is_said_at_once(tmp_path, changed, settings, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(").replace(".", r"\.")):
        grid_of(tmp_path, settings, **changed)
    assert not (tmp_path / "c").exists()


def test_a_method_with_its_own_rate_is_run_with_it_and_found_again_in_the_record(tmp_path):
    methods = {"KD": "kd", "slow KD": {"method": "kd", "lr": 0.01}}
    grid = grid_of(tmp_path, {"lr": 0.1}, methods=methods, students="resnet20", seeds=1)
    assert {cell.method or "teacher": cell.recipe.optim.lr for cell in grid.cells} == {
        "teacher": 0.1, "KD": 0.1, "slow KD": 0.01,
    }  # fmt: skip
    write_record(grid.folder, joined_record(grid))
    assert yaml.safe_load((grid.folder / "comparison.yaml").read_text())["methods"] == methods
    described = read_description(grid.folder)
    assert [described.method_label(cell.recipe.flat()) for cell in grid.cells[1:]] == ["KD", "slow KD"]
    assert joined_record(grid)["methods"] == methods


def test_every_student_has_the_rate_that_was_published_for_its_kind(tmp_path):
    cells = grid_of(tmp_path, students="resnet20,ShuffleV2", methods="kd", seeds=1).cells
    assert {cell.student: cell.recipe.optim.lr for cell in cells[1:]} == {"resnet20": 0.1, "ShuffleV2": 0.02}


def test_models_are_called_by_the_last_part_of_their_names_where_that_is_enough(tmp_path):
    grid = grid_of(tmp_path, students="timm:resnet18,a.b:small", teachers="torchvision:resnet18", methods="kd", seeds=1)
    assert [cell.name for cell in grid.cells] == [
        "resnet18-s0",
        "resnet18-from-resnet18-kd-s0",
        "small-from-resnet18-kd-s0",
    ]
    both = grid_of(tmp_path, students="timm:resnet18,torchvision:resnet18", methods="kd", seeds=1)
    assert list(both.record["students"]) == ["timm:resnet18", "torchvision:resnet18"]
    assert grid_of(tmp_path, teachers="timm:hf-hub:someone/model").cells[0].name == "model-s0"


def test_a_later_student_of_the_same_short_name_leaves_the_first_one_its_runs(tmp_path):
    first = grid_of(tmp_path, students="timm:resnet18", methods="kd", seeds=1)
    write_record(first.folder, joined_record(first))
    for students in ("timm:resnet18,torchvision:resnet18", "torchvision:resnet18"):
        later = grid_of(tmp_path, students=students, methods="kd", seeds=1)
        assert later.record["students"]["torchvision:resnet18"] == "torchvision:resnet18"
        assert joined_record(later)["students"]["resnet18"] == "timm:resnet18"
    both = grid_of(tmp_path, students="timm:resnet18,torchvision:resnet18", methods="kd", seeds=1)
    assert {cell.name for cell in first.cells} < {cell.name for cell in both.cells}


@pytest.mark.parametrize("second", ["torchvision:resnet18", "elsewhere/resnet18"])
def test_a_later_teacher_of_the_same_short_name_leaves_the_first_one_its_runs(second, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if "/" in second:
        for place in (second, "here/resnet18"):
            Path(place).mkdir(parents=True)
            (Path(place) / "config.yaml").write_text("{}")
    start = {"students": "resnet8", "methods": "kd", "seeds": 1}
    one = "here/resnet18" if "/" in second else "timm:resnet18"
    first = grid_of(tmp_path, teachers=one, **start)
    write_record(first.folder, joined_record(first))
    if "/" not in second:
        (first.folder / "resnet18-s0").mkdir()
        (first.folder / "resnet18-s0" / "inputs.json").write_text("{}")
        (first.folder / "resnet18-s0" / "config.yaml").write_text(f"model: {one}")
    for teachers in (f"{one},{second}", second):
        later = joined_record(grid_of(tmp_path, teachers=teachers, **start))["teachers"]
        assert later["resnet18"] == first.record["teachers"]["resnet18"]
        assert len(later) == 2
    both = grid_of(tmp_path, teachers=f"{one},{second}", **start)
    assert {cell.name for cell in first.cells} < {cell.name for cell in both.cells}


def begun(folder, model):
    folder.mkdir(parents=True)
    (folder / "inputs.json").write_text("{}")
    (folder / "config.yaml").write_text(f"model: {model}")


def test_another_spelling_of_a_place_is_the_same_comparison(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "trained" / "big", "resnet56")
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    start = {"students": "resnet8", "methods": "kd", "seeds": 1}
    first = grid_of(tmp_path, {"data": "photos"}, teachers="trained/big", **start)
    write_record(first.folder, joined_record(first))
    for runs in (".", "./", "link", str(tmp_path), f"{tmp_path}/"):
        for prefix in ("", "./", "link/", f"{tmp_path}/"):
            settings = {"data": f"{prefix}photos", "runs": runs}
            again = grid_of(tmp_path, settings, teachers=f"{prefix}trained/big", **start)
            assert joined_record(again)["teachers"] == {"big": f"{prefix}trained/big"}
            assert [cell.name for cell in again.cells] == [cell.name for cell in first.cells]


def test_a_teachers_run_that_was_moved_keeps_its_label(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begun(tmp_path / "old" / "big", "resnet56")
    first = grid_of(tmp_path, teachers="old/big")
    write_record(first.folder, joined_record(first))
    (tmp_path / "old").rename(tmp_path / "new")
    again = grid_of(tmp_path, teachers="new/big")
    assert [cell.name for cell in again.cells] == [cell.name for cell in first.cells]
    assert joined_record(again)["teachers"] == {"big": "new/big"}


def test_a_call_that_ended_before_its_teacher_began_goes_on_under_the_same_names(tmp_path):
    options = {"teachers": "stillroom.models.demo_nets:medium", "students": "resnet8", "methods": "kd", "seeds": 1}
    first = grid_of(tmp_path, **options)
    write_record(first.folder, joined_record(first))
    again = grid_of(tmp_path, **options)
    assert [cell.name for cell in again.cells] == [cell.name for cell in first.cells]
    assert joined_record(again) == joined_record(first)


COMPARISONS = Path(__file__).parents[2] / "benchmarks" / "comparisons"


@pytest.mark.parametrize("file", sorted(COMPARISONS.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_measured_comparisons_are_grids(file, tmp_path, monkeypatch):
    settings = yaml.safe_load(file.read_text("utf-8"))
    axes = {field.name for field in dataclasses.fields(CompareOptions)}
    options = CompareOptions(**{name: settings.pop(name) for name in axes & settings.keys()})
    monkeypatch.chdir(tmp_path)
    trained = int("/" not in options.teachers)
    if not trained:  # by another of these comparisons
        Path(options.teachers).mkdir(parents=True)
        (Path(options.teachers) / "config.yaml").write_text("{}")
    grid = make_grid(options, settings)
    seeds = options.seeds if isinstance(options.seeds, list) else range(int(options.seeds))
    assert len(grid.cells) == trained + len(options.methods) * len(seeds) * len(grid.record["students"])
