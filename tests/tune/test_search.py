from __future__ import annotations

import random
from dataclasses import replace

import pytest

from stillroom.compare.grid import Cell
from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_file import read_tuning, write_tuning
from stillroom.report.tuning_record import Tuning
from stillroom.trust import given
from stillroom.tune import search
from stillroom.tune.parameter_range import Range
from stillroom.tune.rungs import make_budget
from stillroom.tune.search import Search, Searched
from stillroom.tune.search_space import Space

TEACHER = Cell("teacher-s0", "train", {"epochs": 20})
LABELS = ("KD", "mine")
METHODS = {label: NamedMethod("kd", {"nesterov": False}) for label in LABELS}
RANGES = {
    "lr": Range(default=0.1, low=0.025, high=0.4, log=True),
    "kd.temperature": Range(default=4.0, low=1, high=12, log=True),
}


class Runs:
    """The results of trials that are not trained: which are finished, and a score that follows from their values."""

    def __init__(self):
        self.finished = set()

    def folder(self, path, trust=None):
        return type("Run", (), {"complete": path.name in self.finished})

    def scored(self, tuning, trial):
        names = {e: search.trial_folder(tuning.folder, trial.method, trial.number, e).name for e in tuning.budget.rungs}
        score = 100 - 50 * trial.values["lr"] - trial.values["kd.temperature"]
        scores = {epochs: score + epochs for epochs, name in names.items() if name in self.finished}
        return replace(trial, scores=scores)


@pytest.fixture
def runs(monkeypatch):
    pytest.importorskip("optuna")
    made = Runs()
    monkeypatch.setattr(search, "RunFolder", made.folder)
    monkeypatch.setattr(search, "with_scores", made.scored)
    return made


def begin(folder, trials=9, written=True):
    folder.mkdir(exist_ok=True)
    tuning = Tuning(folder, "t", "s", METHODS, make_budget(trials, 9, 3, [3, 9]), {}, 0, 0.1, {"epochs": 9})
    if written:
        write_tuning(tuning)
    return resume(tuning)


def resume(tuning):
    found = replace(tuning, trials=read_tuning(tuning.folder).trials)
    searched = []
    for label in LABELS:
        settings = {"epochs": 9, "milestones": [6], "seed": 1, "method": "kd", "bank": "b", "lr": None}
        base = Cell(f"s-from-t-{label}-s1", "distill", settings, "teacher-s0", ("t", 1), "s", label, given(["kd"]))
        searched.append(Searched(label, Space(METHODS[label], settings, 9, RANGES), base))
    return tuning, Search(found, searched, [TEACHER])


def work(runs, tuning, plan, order, *, restarts=()):
    """Finish the runs in a random order; at some of them the search begins anew from its record."""
    waiting = [cell for cell in plan.cells if cell.command == "distill"]
    while waiting:
        cell = waiting.pop(order.randrange(len(waiting)))
        runs.finished.add(cell.name)
        if len(runs.finished) in restarts:
            plan = resume(tuning)[1]
            waiting = [c for c in plan.cells if c.command == "distill" and c.name not in runs.finished]
        waiting += plan.more()
    return plan


def test_every_method_gets_the_same_trials_and_epochs_and_the_best_go_on(runs, tmp_path):
    tuning, plan = begin(tmp_path / "c")
    assert (plan.run_count, plan.epoch_count) == (1 + 2 * (9 + 3), 20 + 2 * (9 * 3 + 3 * 9))
    plan = work(runs, tuning, plan, random.Random(0))
    assert len(plan.cells) == plan.run_count
    assert sum(cell.epochs for cell in plan.cells) == plan.epoch_count
    for label in LABELS:
        own = [cell for cell in plan.cells if cell.method == label]
        assert [cell.epochs for cell in own].count(3) == 9
        best = sorted((t for t in plan.trials if t.method == label), key=lambda t: -runs.scored(tuning, t).scores[3])
        going_on = [t.number for t in best[:3]]
        going_on = going_on if 0 in going_on else [*going_on[:2], 0]
        assert sorted(c.name for c in own if c.epochs == 9) == sorted(f"{label}-t{n:03d}-e9" for n in going_on)
        winner = plan.winners()[label]
        assert winner.trial == best[0].number
        assert winner.settings == {"nesterov": False, "lr": best[0].values["lr"]}
        assert winner.text == f"kd(temperature={best[0].values['kd.temperature']})".replace(".0)", ")")


def test_trials_and_winners_do_not_depend_on_the_order_of_results_or_on_restarts(runs, tmp_path):
    found = []
    for seed, restarts in ((0, ()), (1, ()), (2, (1, 7, 8, 20))):
        tuning, plan = begin(tmp_path / f"c{seed}")
        runs.finished.clear()
        plan = work(runs, tuning, plan, random.Random(seed), restarts=restarts)
        found.append(((tuning.folder / "trials.jsonl").read_text().splitlines(), plan.winners()))
    assert found[1][0] == found[0][0] == found[2][0]
    assert found[1][1] == found[0][1] == found[2][1]


def test_values_are_recorded_before_their_run_and_a_trial_is_a_shorter_run_of_its_own(runs, tmp_path):
    tuning, plan = begin(tmp_path / "c")
    assert len(read_tuning(tuning.folder).trials) == 8  # a generation of four for each method
    cell = next(cell for cell in plan.cells if cell.name == "KD-t000-e3")
    assert cell.settings == {
        "epochs": 3, "milestones": [2], "seed": 0, "method": "kd(temperature=4)", "bank": "b", "lr": 0.1,
        "hold_out": 0.1, "name": "KD-t000-e3", "runs": str(tuning.folder / "trials"),
    }  # fmt: skip
    assert cell.waits_for == "teacher-s0"
    assert cell.trust.of("kd(temperature=4)").names
    others = [other.fills for other in plan.cells if other.command == "distill"]
    assert {*others} == {("trials", 3, "t", 1)}  # one bank for all trials at a rung


def test_a_trial_that_diverges_has_the_worst_score_and_is_not_repeated(runs, tmp_path):
    tuning, plan = begin(tmp_path / "c")
    best = next(cell for cell in plan.cells if cell.name == "KD-t000-e3")
    assert plan.takes_divergence(best, "Diverged: loss is nan")
    again = resume(tuning)[1]
    assert plan.has_diverged(best)
    assert again.has_diverged(best)
    assert not plan.takes_divergence(TEACHER, "Diverged")
    waiting = [cell for cell in again.cells if cell.command == "distill" and cell.name != best.name]
    for cell in waiting:  # which grows
        runs.finished.add(cell.name)
        waiting += again.more()
    assert "KD-t000-e9" not in {cell.name for cell in again.cells}
    assert again.winners().keys() == {*LABELS}
    assert read_tuning(tuning.folder).of_method("KD")[0].problems == {3: "Diverged: loss is nan"}
