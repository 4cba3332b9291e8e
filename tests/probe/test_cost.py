"""Cost: speed is measured, and hours are told apart: teacher, bank, tuning, training."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.export import latency
from stillroom.probe import cost
from stillroom.probe.cost import cost_of, hours_of, spent_hours
from stillroom.report.comparison_file import NamedMethod
from stillroom.report.tuning_file import write_trials, write_tuning
from stillroom.report.tuning_record import Budget, Trial, Tuning, Winner, trial_folder
from tests.probe.conftest import subject_of


def changed(folder, **numbers):
    """Put numbers into the record of a run."""
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | numbers))


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", 0.01)


@pytest.mark.parametrize("role", ["student", "teacher"])
def test_speed_and_size_of_both_networks(trained_runs, role, short):
    found = cost_of(subject_of(trained_runs, role=role))
    summary = RunFolder(trained_runs / "kd-s0").summary()
    assert found["latency_ms"] > 0
    assert found["images_per_second"] > 1000 / found["latency_ms"] / 10
    assert found["parameters"] == summary[f"{'teacher_' * (role == 'teacher')}parameters"]
    assert found["machine"]["device"] == "cpu"


def test_energy_is_that_of_a_thousand_images(trained_runs, short, monkeypatch):
    calls = []

    def joules_of(call, device):
        calls.append(device.type)
        call()
        return 6.4

    monkeypatch.setattr(cost, "joules_of", joules_of)
    monkeypatch.setattr(cost, "ENERGY_SECONDS", 1e-6)  # one batch of 64
    assert cost_of(subject_of(trained_runs))["joules_per_1000_images"] == pytest.approx(100.0)
    assert calls == ["cpu"]
    monkeypatch.setattr(cost, "joules_of", lambda *_: None)
    assert cost_of(subject_of(trained_runs))["joules_per_1000_images"] is None


def test_hours_are_those_of_all_cores_and_all_processes(runs):
    run = RunFolder(runs / "kd-s0")
    threads = run.environment()["threads"]
    changed(run.path, seconds=7200.0, bank_seconds=1800.0, processes=2)
    assert spent_hours(run) == pytest.approx(1.5 * threads * 2)
    assert spent_hours(run, bank=True) == pytest.approx(0.5 * threads * 2)
    changed(run.path, device="cuda:0")
    assert spent_hours(run) == pytest.approx(1.5 * 2)
    assert hours_of(subject_of(runs))["unit"] == "GPU"


def test_teacher_and_training_are_apart_and_what_was_not_there_is_none(runs):
    changed(runs / "kd-s0", seconds=3600.0)
    found, teacher = hours_of(subject_of(runs)), hours_of(subject_of(runs, role="teacher"))
    assert found["training"] == pytest.approx(RunFolder(runs / "kd-s0").environment()["threads"])
    assert found["teacher"] == teacher["training"] > 0
    assert found["bank"] is None
    assert found["tuning"] is None
    assert "tuning" not in teacher


def test_tuning_costs_what_all_trials_of_the_method_cost(runs, trained_runs):
    budget = Budget(2, (1, 2), (2, 1))
    trials = tuple(Trial("kd", number, {}) for number in range(2))
    winner = {"kd": Winner("kd", {}, 0, 50.0)}
    tuning = Tuning(runs, "teacher", "student", {"kd": NamedMethod("kd")}, budget, {}, 0, 0.1, {}, trials, winner)
    for number, epochs in ((0, 1), (1, 1), (0, 2)):
        folder = trial_folder(runs, "kd", number, epochs)
        folder.mkdir(parents=True)
        for name in ("config.yaml", "inputs.json", "summary.json", "environment.json"):
            (folder / name).write_text((trained_runs / "kd-s0" / name).read_text())
        changed(folder, seconds=1800.0)
    (runs / "comparison.yaml").write_text(
        "methods: {kd: kd, labels: ce}\ntuned: {kd: {folder: ., trials: 2, epochs: 4, hold_out: 0.1}}\n"
    )
    write_tuning(tuning)
    write_trials(runs, trials)
    threads = RunFolder(runs / "kd-s0").environment()["threads"]
    assert hours_of(subject_of(runs))["tuning"] == pytest.approx(1.5 * threads)
    assert hours_of(subject_of(runs, "ce-s0"))["tuning"] is None
    alone = hours_of(subject_of(runs))["teacher"]
    place = runs / "trials" / "teacher"  # the teacher of the trials, which is paid for, too
    shutil.copytree(trial_folder(runs, "kd", 0, 1), place)
    write_tuning(replace(tuning, search_teacher="trials/teacher"))
    assert hours_of(subject_of(runs))["teacher"] == pytest.approx(alone + 0.5 * threads)
