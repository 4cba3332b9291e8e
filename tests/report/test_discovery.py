from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.report.aggregate import read_comparison
from stillroom.report.discovery import FoundRun, run_folders, short_name
from stillroom.trust import NOTHING
from tests.report.pages import made_run


def test_runs_can_be_named_one_by_one_and_count_once(trained_comparison):
    some = [trained_comparison / name for name in ("kd-s1", "kd-s0", "kd-s1")]
    assert [cell.run.path.name for cell in read_comparison(some).pairs[0].cells] == ["kd-s0", "kd-s1"]
    both = read_comparison([some[0], trained_comparison])
    assert len(both.pairs[0].cells) == 5


@pytest.mark.parametrize("kind", ["missing", "file", "empty"])
def test_a_path_without_runs_is_named(tmp_path, kind):
    path = tmp_path / kind
    if kind == "file":
        path.write_text("")
    elif kind == "empty":
        (path / "notes").mkdir(parents=True)
    with pytest.raises(InputError, match=f"{kind}( is a file| holds no run folders|: there is no such folder)"):
        run_folders([path], NOTHING)


def test_names_of_models_are_their_last_part():
    assert [short_name(name) for name in ("timm:resnet18", "runs/a", "resnet20")] == ["resnet18", "a", "resnet20"]


def test_a_run_says_its_place_in_a_comparison(tmp_path):
    (tmp_path / "comparison.yaml").write_text("methods: {KD: kd}\nstudents: {S: small}\n")
    run = FoundRun(made_run(tmp_path, "a", ["x"], "kd", seed=3, teacher="timm:resnet18"))
    assert (run.method, run.seed, run.student, run.data_name) == ("KD", 3, "small", "made")
    assert run.teacher_names[0] == "resnet18"
    assert run.student_names == ("S", "small")
    assert FoundRun(made_run(tmp_path, "b", ["x"], "ce")).method == "labels only"
    assert run.teacher_run is None
