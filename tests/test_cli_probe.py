"""The command ``probe``: a table for each probe, its exit status, and errors in one line."""

from __future__ import annotations

import json

from stillroom.cli import main
from tests.probe.conftest import runs as runs
from tests.probe.conftest import trained_runs as trained_runs


def test_tables_of_the_chosen_probes_are_printed(runs, capsys):
    command = ["probe", str(runs), "--what", "calibration", "--accelerator", "cpu"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "Calibration on the validation images" in out
    assert all(name in out for name in ("teacher", "kd", "labels only", "ECE %"))
    nll = json.loads((runs / "kd-s0" / "probes.json").read_text())["calibration"]["validation"]["results"]["nll"]
    assert f"{nll:.3f}" in out


def test_what_could_not_be_measured_is_an_error_in_a_line(runs, capsys):
    (runs / "ce-s0" / "predictions.safetensors").unlink()
    assert main(["probe", str(runs), "--what", "calibration"]) == 1
    streams = capsys.readouterr()
    assert "ce-s0 is not measured" in streams.err
    assert "kd" in streams.out


def test_settings_are_checked_first(runs, capsys):
    for words, problem in (
        (["--what", "calibraton"], "did you mean calibration"),
        (["--what", "transfer"], "name the set to measure it on"),
        (["--batch_size", "0"], "batch_size=0: give at least 1"),
        (["--teacher", "maybe"], "teacher=maybe: give true or false"),
    ):
        assert main(["probe", str(runs), *words]) == 2
        said = capsys.readouterr().err
        assert problem in said
        assert said.count("\n") == 1
