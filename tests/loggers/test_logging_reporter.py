from __future__ import annotations

import pytest
from safetensors.torch import load_file

from stillroom.loggers import logging_reporter
from stillroom.runtime.reporters import Lines
from tests.loggers.runs import EPOCHS, STEPS, Failing, KilledError, Killing, Recording, train_logged

RECORDING, FAILING = "tests.loggers.runs.Recording", "tests.loggers.runs.Failing"


@pytest.fixture(autouse=True)
def _forget():
    Recording.calls.clear()


def test_a_logger_is_told_the_run_its_epochs_and_its_end(tmp_path, tiny_data):
    record = train_logged(tmp_path, tiny_data, RECORDING)
    epochs = [("epoch", row["epoch"]) for row in record.epochs()]
    calls = Recording.calls
    assert [call[:2] for call in calls if call[0] == "epoch"] == epochs
    assert calls[:2] == [("made",), ("start", "r", EPOCHS, STEPS, 0)]
    assert calls[-2:] == [("finish", EPOCHS), ("close",)]
    row, logged = record.epochs()[0], next(call[2] for call in calls if call[0] == "epoch")
    assert logged["val_top1"] == row["val_top1"]
    assert logged["terms/ce"] == row["terms"]["ce"]
    assert "agreement" not in logged, "it was not measured"


def test_losses_inside_an_epoch_are_logged_with_the_number_of_the_step(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setattr(logging_reporter, "STEP_SECONDS", 0.0)
    train_logged(tmp_path, tiny_data, RECORDING)
    steps = [call for call in Recording.calls if call[0] == "step"]
    assert [number for _, number, _ in steps] == list(range(1, EPOCHS * STEPS + 1))
    assert all(losses["ce"] > 0 for *_, losses in steps)


def test_a_logger_that_fails_is_dropped_and_the_run_ends_as_without_it(tmp_path, tiny_data):
    said = []
    plain = train_logged(tmp_path, tiny_data, name="plain")
    logged = train_logged(tmp_path, tiny_data, FAILING, RECORDING, name="logged", reporter=Lines(said.append))
    warnings = [line for line in said if line.startswith("warning: log_to")]
    assert warnings == [
        f"warning: log_to={FAILING} failed (ConnectionError: the tracker is out of reach); it receives nothing more, "
        "the run continues"
    ]
    assert [call[1] for call in Failing.calls if call[0] == "epoch"] == [1, 1, 2, 2, 3, 4], "both, then one"
    one, other = load_file(plain.student), load_file(logged.student)
    assert all(one[name].equal(other[name]) for name in one)


def test_a_run_that_is_killed_and_continued_says_where_it_goes_on(tmp_path, tiny_data):
    with pytest.raises(KilledError):
        train_logged(tmp_path, tiny_data, RECORDING, reporter=Killing(3 * STEPS + 1))
    assert Recording.calls[-1] == ("close",)
    train_logged(tmp_path, tiny_data, RECORDING)
    assert [call[-1] for call in Recording.calls if call[0] == "start"] == [0, 2 * STEPS]


def test_a_run_may_continue_with_other_loggers_and_a_finished_one_tells_none(tmp_path, tiny_data):
    with pytest.raises(KilledError):
        train_logged(tmp_path, tiny_data, RECORDING, reporter=Killing(2 * STEPS + 1))
    assert train_logged(tmp_path, tiny_data).finished
    Recording.calls.clear()
    train_logged(tmp_path, tiny_data, RECORDING)
    assert Recording.calls == []
