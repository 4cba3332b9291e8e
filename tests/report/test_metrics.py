from __future__ import annotations

import json
import math
import shutil

import pytest
import torch

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report import metrics as module
from stillroom.report.metrics import measure
from stillroom.report.predictions import Answers, answers, teacher_answers
from tests.report.conftest import SMALL, trained


@pytest.fixture
def run(runs):
    return RunFolder(runs / "kd-s0")


def calibration_error(logits, labels, bins=15):
    """Mean over bins of |accuracy - confidence|, weighted by how many images fall in, in percent."""
    inside = [[] for _ in range(bins)]
    for row, label in zip(logits.softmax(1), labels, strict=True):
        confidence = float(row.max())
        inside[min(int(confidence * bins), bins - 1)].append((confidence, float(row.argmax() == label)))
    gaps = [abs(sum(c for c, _ in some) - sum(right for _, right in some)) for some in inside]
    return 100 * sum(gaps) / len(labels)


def divergence(student, teacher):
    """Mean over images of sum p log(p / q)."""
    total = 0.0
    for p, q in zip(teacher.double().softmax(1), student.double().softmax(1), strict=True):
        total += sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))
    return total / len(student)


def test_numbers_agree_with_ones_written_out(run):
    got, mine, teacher, summary = measure(run), answers(run), teacher_answers(run), run.summary()
    assert (got.last, got.best) == (summary["last"]["val_top1"], summary["best"]["val_top1"])
    assert got.best_epoch == summary["best"]["epoch"]
    assert got.agreement == summary["last"]["agreement"]
    assert got.ece == pytest.approx(calibration_error(mine.logits, mine.labels), abs=1e-3)
    assert got.kl_to_teacher == pytest.approx(divergence(mine.logits, teacher.logits), rel=1e-6)
    assert got.val_loss == pytest.approx(summary["last"]["val_loss"], abs=2e-3)
    assert got.seconds == summary["seconds"]
    speeds = [row["images_per_second"] for row in run.epochs()]
    assert min(speeds) <= got.images_per_second <= max(speeds)
    for label, share in enumerate(got.per_class):
        assert share == pytest.approx(100 * float(mine.correct[mine.labels == label].double().mean()), abs=1e-4)
    assert sum(got.per_class) / 4 == pytest.approx(got.last, abs=1e-4)  # as many images of each class


def test_multiplications_are_those_of_convolutions_and_the_last_layer(run):
    # 8x8 images, stem of stride 2: 4x4; stages at 4x4, 2x2 and 1x1 with a 1x1 shortcut where the width changes.
    stem = 16 * 9 * 3 * 8
    one = 16 * 9 * (8 * 8 + 8 * 8)
    two = 4 * (9 * (8 * 16 + 16 * 16) + 8 * 16)
    three = 1 * (9 * (16 * 32 + 32 * 32) + 16 * 32)
    assert measure(run).macs == stem + one + two + three + 32 * 4


def test_a_class_without_images_counts_as_zero_and_is_no_nan():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5]])
    assert module._per_class(Answers(logits, torch.tensor([0, 1]))) == (100.0, 100.0, 0.0)


def test_a_run_without_teacher_has_no_numbers_about_one(runs):
    got = measure(RunFolder(runs / "teacher"))
    assert (got.agreement, got.kl_to_teacher) == (None, None)


def test_best_weights_that_were_exported_do_not_change_what_last_means(runs):
    data = RunFolder(runs / "teacher").config()["data"]
    run = trained("train", runs, "best", model=SMALL, epochs=3, lr=0.3, export="best", data=data)
    got, summary = measure(run), run.summary()
    assert (got.last, got.best) == (summary["last"]["val_top1"], summary["best"]["val_top1"])
    assert sum(got.per_class) / 4 == pytest.approx(got.best, abs=1e-4)


def test_the_time_for_the_bank_is_not_the_students(run):
    before = measure(run)
    summary = run.summary() | {"bank_seconds": 0.75 * run.summary()["seconds"]}
    rows = [row | {"bank_seconds": 0.75 * row["seconds"]} for row in run.epochs()]
    run.write_summary(summary)
    run.write_epochs(rows)
    (run.path / "measures.json").unlink()
    after = measure(run)
    assert after.seconds == pytest.approx(before.seconds / 4)
    assert after.images_per_second == pytest.approx(4 * before.images_per_second)


def test_peak_memory_is_what_the_run_recorded(run):
    summary = {name: value for name, value in run.summary().items() if name != "peak_memory_bytes"}
    run.write_summary(summary)
    assert measure(run).peak_memory is None
    (run.path / "measures.json").unlink()
    run.write_summary(summary | {"peak_memory_bytes": 123})
    assert measure(run).peak_memory == 123


@pytest.fixture
def no_computing(monkeypatch):
    return lambda: monkeypatch.setattr(module, "_compute", lambda run: pytest.fail("computed again"))


def test_a_run_is_measured_once_and_the_numbers_come_back_exactly(run, no_computing):
    first = measure(run)
    no_computing()
    assert measure(run) == first
    assert isinstance(measure(run).per_class, tuple)


DAMAGE = {
    "cut short": lambda text: text[:-20],
    "a list": lambda text: "[1]",
    "another format": lambda text: json.dumps(json.loads(text) | {"format": 0}),
    "another student": lambda text: json.dumps(json.loads(text) | {"weights": "0"}),
    "a name less": lambda text: json.dumps({key: v for key, v in json.loads(text).items() if key != "ece"}),
    "a name more": lambda text: json.dumps(json.loads(text) | {"other": 1}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit_is_made_anew(run, damage):
    whole, path = measure(run), run.path / "measures.json"
    path.write_text(DAMAGE[damage](path.read_text()))
    assert measure(run) == whole
    assert json.loads(path.read_text())["ece"] == whole.ece


def test_a_folder_that_cannot_be_written_only_costs_the_file(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_text", full)
    assert measure(run).parameters == run.summary()["parameters"]
    assert not (run.path / "measures.json").exists()


def test_without_its_teacher_a_run_keeps_the_agreement_it_recorded_until_the_teacher_is_back(runs, run):
    whole = measure(run)
    (run.path / "measures.json").unlink()
    next(runs.glob("teacher-*.safetensors")).unlink()
    config = run.path / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace(run.config()["teacher"], "elsewhere/teacher"))
    shutil.move(runs / "teacher", runs / "away")
    got = measure(run)
    assert (got.agreement, got.kl_to_teacher) == (run.summary()["last"]["agreement"], None)
    shutil.move(runs / "away", runs / "teacher")
    assert measure(run) == whole


def test_an_unfinished_run_is_refused(run):
    (run.path / "summary.json").unlink()
    with pytest.raises(InputError, match="finished run folder"):
        measure(run)
