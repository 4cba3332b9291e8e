"""Probes of finished runs: recorded one by one, not repeated, refused before time is spent."""

from __future__ import annotations

import json
import shutil

import pytest

from stillroom.errors import InputError
from stillroom.probe import run_probes
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.run_probes import KINDS, probe_runs
from stillroom.report.probe_record import read_probes


def options(**given) -> ProbeOptions:
    return ProbeOptions(**{"accelerator": "cpu", "what": ["calibration"], **given})


def counting(monkeypatch) -> list[str]:
    """The probes that were carried out, each with its subject."""
    done: list[str] = []
    record = run_probes.write_probe

    def write(path, probe, on, result):
        done.append(f"{probe} {path.parent.name if path.name == 'probes.json' else 'teacher'}")
        record(path, probe, on, result)

    monkeypatch.setattr(run_probes, "write_probe", write)
    return done


def test_students_and_their_teacher_are_measured_once(runs, monkeypatch):
    done, both = counting(monkeypatch), [runs / "ce-s0", runs / "kd-s0"]
    comparison = probe_runs(both, options())
    assert {cell.run.path.name for cell in comparison.pairs[0].cells} == {"ce-s0", "kd-s0"}
    assert done == ["calibration teacher", "calibration ce-s0", "calibration kd-s0"]
    (teacher,) = runs.glob("teacher-*.probes.json")
    assert read_probes(teacher)["calibration"]["validation"].results["nll"] > 0
    probe_runs(both, options())
    assert len(done) == 3
    probe_runs([runs / "kd-s0"], options(seed=1, teacher=False))
    probe_runs([runs / "kd-s0"], options(seed=1, teacher=False, again=True))
    assert done[3:] == ["calibration kd-s0"] * 2


def test_other_weights_or_another_version_are_measured_again(runs, monkeypatch):
    done = counting(monkeypatch)
    probe_runs([runs / "kd-s0"], options(teacher=False))
    shutil.copy(runs / "ce-s0" / "student.safetensors", runs / "kd-s0" / "student.safetensors")
    probe_runs([runs / "kd-s0"], options(teacher=False))
    monkeypatch.setattr(KINDS["calibration"], "version", 99, raising=False)
    probe_runs([runs / "kd-s0"], options(teacher=False))
    assert len(done) == 3


def test_what_cannot_be_measured_is_told_and_the_rest_is(runs, monkeypatch):
    (runs / "ce-s0" / "predictions.safetensors").write_bytes(b"damaged")
    told: list[str] = []
    probe_runs([runs], options(), note=told.append)
    assert len(told) == 1
    assert told[0].startswith("calibration of ce-s0 is not measured: ")
    assert "calibration" in read_probes(runs / "kd-s0" / "probes.json")


def test_refusals_come_before_any_measurement(runs, trained_runs, monkeypatch):
    done = counting(monkeypatch)
    refused = {
        "what=shfit": {"what": ["shfit"]},
        "on=nowhere: data is 'nowhere'": {"what": ["calibration", "transfer"], "on": ["nowhere"]},
        "ood=scenes: its images have boxes": {"what": ["calibration", "ood"], "ood": ["scenes"]},
    }
    for problem, given in refused.items():
        with pytest.raises(InputError, match=problem):
            probe_runs([runs], options(**given))
    (runs / "kd-s0" / "summary.json").unlink()
    with pytest.raises(InputError, match=r"kd-s0: this run is not finished; run its command again first"):
        probe_runs([runs / "kd-s0"], options())
    config = runs / "ce-s0" / "config.yaml"
    config.write_text(config.read_text().replace("task: classification", "task: detection"))
    with pytest.raises(InputError, match="detector"):
        probe_runs([runs / "ce-s0"], options())
    assert done == []


def test_a_run_that_ends_early_keeps_what_it_has_measured(runs, monkeypatch):
    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(KINDS["cost"], "measurements", broken, raising=False)
    with pytest.raises(KeyboardInterrupt):
        probe_runs([runs], options(what=["calibration", "cost"]))
    monkeypatch.setattr(KINDS["cost"], "measurements", lambda subject: [])
    first = run_probes._record
    monkeypatch.setattr(
        run_probes, "_record", lambda s, n, p, say: broken() if s.name == "kd-s0" else first(s, n, p, say)
    )
    with pytest.raises(KeyboardInterrupt):
        probe_runs([runs], options())
    assert json.loads((runs / "ce-s0" / "probes.json").read_text())["calibration"]["validation"]["results"]["nll"] > 0
    assert not (runs / "kd-s0" / "probes.json").exists()
