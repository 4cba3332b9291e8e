from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stillroom.errors import InputError
from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_file import read_tuning, write_trials, write_tuning
from stillroom.report.tuning_record import Budget, Trial, Tuning, Winner, trial_folder
from tests.report.tunings import finish


def made_tuning(folder: Path) -> Tuning:
    """Two methods with three trials each at the first rung and one at the second."""
    return Tuning(
        folder=folder,
        teacher="runs/t",
        student="resnet8",
        methods={"KD": NamedMethod("kd"), "slow: kd": NamedMethod("kd", {"lr": 0.01})},
        budget=Budget(trials=3, rungs=(2, 6), quotas=(3, 1)),
        spaces={"KD": {"lr": {"times": [0.25, 4]}}, "slow: kd": {}},
        seed=3,
        hold_out=0.1,
        settings={"data": "glyphs100", "milestones": [3, 5]},
    )


def made_trials(tuning: Tuning) -> tuple[Trial, ...]:
    """Three trials of each method; their runs are written by :func:`finish`."""
    return tuple(
        Trial(label, n, {"lr": 0.1 * (n + 1), "kd.temperature": n + 1}) for label in tuning.methods for n in range(3)
    )


def test_what_is_written_is_read_with_the_scores_of_the_runs(tmp_path):
    assert read_tuning(tmp_path) is None
    tuning = made_tuning(tmp_path / "a")
    write_tuning(tuning)
    assert read_tuning(tuning.folder) == tuning
    trials = (*made_trials(tuning)[:-1], replace(made_trials(tuning)[-1], problems={2: "Diverged: loss became nan"}))
    write_trials(tuning.folder, trials)
    finish(tuning, "KD", 1, 2, 41.5)
    finish(tuning, "KD", 1, 6, 55.25)
    winners = {label: Winner("kd(temperature=2)", {"lr": 0.2}, 1, 55.25) for label in tuning.methods}
    write_tuning(replace(tuning, winners=winners))
    found = read_tuning(tuning.folder)
    assert found is not None
    assert found.of_method("KD") == (trials[0], replace(trials[1], scores={2: 41.5, 6: 55.25}), trials[2])
    assert found.of_method("slow: kd")[2].problems == {2: "Diverged: loss became nan"}
    assert found.winners == winners
    assert found.winners["KD"].method == NamedMethod("kd(temperature=2)", {"lr": 0.2})
    assert found.budget.epochs == 3 * 2 + 1 * 6
    assert read_tuning(tuning.folder) == found


def test_a_finished_run_without_a_usable_score_says_why(tmp_path):
    tuning = made_tuning(tmp_path)
    write_tuning(tuning)
    write_trials(tmp_path, made_trials(tuning))
    finish(tuning, "KD", 0, 2, float("nan"))
    found = read_tuning(tmp_path)
    assert found is not None
    trial = found.of_method("KD")[0]
    assert (trial.scores, [*trial.problems]) == ({}, [2])
    assert "diverged" in trial.problems[2]


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("tuning.yaml", "", "it is empty"),
        ("tuning.yaml", "[1]", "names with values are expected"),
        ("tuning.yaml", "a: [", "cannot be read"),
        ("tuning.yaml", "methods: {a: kd}\nspaces: {}", "it has no teacher"),
        ("tuning.yaml", "methods: {a: {lr: 1}}", "say which method it is"),
        ("trials.jsonl", '{"method": "KD"', "cannot be read"),
        ("trials.jsonl", "[]", "names with values are expected"),
        ("trials.jsonl", '{"method": "dkd", "number": 0, "values": {}}', "which tuning.yaml does not know"),
        ("trials.jsonl", '{"method": "KD", "number": 3, "values": {}}', "which tuning.yaml does not know"),
        ("trials.jsonl", '{"method": "KD", "number": 0, "values": {"lr": [1]}}', "no value of a parameter"),
        ("trials.jsonl", '{"method": "KD", "number": 0, "values": {}}\n' * 2, "it has a trial twice"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(tmp_path, name, text, match):
    write_tuning(made_tuning(tmp_path))
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=match) as caught:
        read_tuning(tmp_path)
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("budget", "match"),
    [
        (Budget(3, (6, 2), (3, 1)), "no list of counts in order"),
        (Budget(3, (2, 6), (1, 3)), "no list of counts in order"),
        (Budget(3, (0, 6), (3, 1)), "no list of counts in order"),
        (Budget(3, (2, 6), (3,)), "do not fit"),
        (Budget(4, (2, 6), (3, 1)), "do not fit"),
        (Budget(-1, (2, 6), (3, 1)), "at least 0"),
    ],
)
def test_a_budget_that_does_not_fit_is_refused(tmp_path, budget, match):
    write_tuning(replace(made_tuning(tmp_path), budget=budget))
    with pytest.raises(InputError, match=match):
        read_tuning(tmp_path)


def test_a_winner_of_no_method_is_refused(tmp_path):
    write_tuning(replace(made_tuning(tmp_path), winners={"dkd": Winner("dkd", {}, 0, 50.0)}))
    with pytest.raises(InputError, match="'dkd' is none of the methods KD, slow: kd"):
        read_tuning(tmp_path)


def test_a_damaged_run_of_a_trial_is_named_with_the_fix(tmp_path):
    tuning = made_tuning(tmp_path)
    write_tuning(tuning)
    write_trials(tmp_path, made_trials(tuning))
    finish(tuning, "KD", 0, 2, 50.0)
    place = trial_folder(tmp_path, "KD", 0, 2)
    (place / "summary.json").write_text("{")
    with pytest.raises(InputError, match="stillroom tune trains this trial again") as caught:
        read_tuning(tmp_path)
    assert str(place) in str(caught.value)


def test_labels_that_are_no_file_names_have_folders_of_their_own(tmp_path):
    names = {trial_folder(tmp_path, label, 12, 4).name for label in ("ldrld(depth=5)", "ldrld(depth=7)", "KD")}
    assert len(names) == 3
    assert "KD-t012-e4" in names
