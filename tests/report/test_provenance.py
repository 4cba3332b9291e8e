from __future__ import annotations

from stillroom.report.aggregate import Pair, PlacedRun
from stillroom.report.provenance import differing_settings, provenance_of
from tests.report.pages import made_run


def pair_of(*runs):
    cells = tuple(PlacedRun(run, str(run.config()["method"]), int(run.config()["seed"])) for run in runs)
    return Pair("big", "small", None, cells, {})


def test_what_all_runs_share_and_what_they_do_not(tmp_path):
    runs = [made_run(tmp_path, name, ["a", "b"], seed=i, momentum=0.9, pad=i) for i, name in enumerate("xy")]
    made = provenance_of(pair_of(*runs))
    assert made.common["momentum"] == "0.9"
    assert made.differing == {"pad": "0 in x; 1 in y"}
    assert made.data == "made: 2 classes, 1,000 training and 10 validation images"
    assert made.schedule.endswith("seeds 0, 1")


def test_a_setting_in_which_methods_differ_is_told_by_method(tmp_path):
    settings = [("kd", 0, 0.05), ("kd", 1, 0.05), ("slow", 0, 0.01), ("slow", 1, 0.01)]
    runs = [made_run(tmp_path, f"{m}{s}", ["a"], method=m, seed=s, lr=lr) for m, s, lr in settings]
    made = provenance_of(pair_of(*runs))
    assert made.differing == {"lr": "0.05 in “kd”; 0.01 in “slow”"}
    assert "peak learning rate 0.05 or 0.01," in made.schedule
    assert differing_settings(pair_of(*runs)) == ["lr is 0.05, but 0.01 for “slow”"]
    assert differing_settings(pair_of(*runs[:2])) == []


def test_ones_and_truth_are_told_apart(tmp_path):
    made = provenance_of(pair_of(made_run(tmp_path, "x", ["a"], pad=1, flip=True, per_class=None, milestones=[])))
    told = {name: made.common[name] for name in ("pad", "flip", "per_class", "milestones")}
    assert told == {"pad": "1", "flip": "yes", "per_class": "not set", "milestones": "none"}


def test_commands_and_machines_come_once_and_may_be_missing(tmp_path):
    runs = [made_run(tmp_path, name, ["a"], seed=i, method="kd * 2") for i, name in enumerate("xyz")]
    (runs[2].path / "environment.json").unlink()
    made = provenance_of(pair_of(*runs))
    assert made.commands == ["stillroom distill --method 'kd * 2'"]
    assert made.machines == ["CPU (c, 2 threads); p"]
