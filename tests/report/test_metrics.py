from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from stillroom.engine.predictions import Predictions, predictions_of, teacher_predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report import metrics as module
from stillroom.report.metrics import measure, measure_teacher
from stillroom.report.run_detections import detections_of, teacher_detections_of
from stillroom.tasks.average_precision import average_precision
from tests.report.box_runs import made_box_run
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
    got, mine, teacher, summary = measure(run), predictions_of(run), teacher_predictions_of(run), run.summary()
    assert (got.last, got.best) == (summary["last"]["val_top1"], summary["best"]["val_top1"])
    assert got.best_epoch == summary["best"]["epoch"]
    assert got.agreement == summary["last"]["agreement"]
    assert got.ece == pytest.approx(calibration_error(mine.logits, mine.labels), abs=1e-3)
    assert got.kl_to_teacher == pytest.approx(divergence(mine.logits, teacher.logits), rel=1e-6)
    assert (got.macs, got.parameters) == (summary["macs"], summary["parameters"])
    assert got.val_loss == pytest.approx(summary["last"]["val_loss"], abs=2e-3)
    assert got.seconds == summary["seconds"]
    speeds = [row["images_per_second"] for row in run.epochs()]
    assert min(speeds) <= got.images_per_second <= max(speeds)
    for label, share in enumerate(got.per_class):
        assert share == pytest.approx(100 * float(mine.correct[mine.labels == label].double().mean()), abs=1e-4)
    assert sum(got.per_class) / 4 == pytest.approx(got.last, abs=1e-4)  # as many images of each class


def test_a_class_without_images_counts_as_zero_and_is_no_nan():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.5]])
    assert module._per_class(Predictions(logits, torch.tensor([0, 1]), torch.tensor([0, 1]))) == (100.0, 100.0, 0.0)


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
    after = measure(run)
    assert after.seconds == pytest.approx(before.seconds / 4)
    assert after.images_per_second == pytest.approx(4 * before.images_per_second)


def test_peak_memory_is_what_the_run_recorded(run):
    summary = {name: value for name, value in run.summary().items() if name != "peak_memory_bytes"}
    run.write_summary(summary)
    assert measure(run).peak_memory is None
    run.write_summary(summary | {"peak_memory_bytes": 123})
    assert measure(run).peak_memory == 123


def test_without_its_teachers_predictions_a_run_keeps_the_agreement_it_recorded(runs, run):
    whole = measure(run)
    next(runs.glob("teacher-*.safetensors")).unlink()
    got = measure(run)
    assert got == replace(whole, kl_to_teacher=None)
    assert got.agreement == run.summary()["last"]["agreement"]


def test_an_unfinished_run_is_refused(run):
    (run.path / "summary.json").unlink()
    with pytest.raises(InputError, match="finished run folder"):
        measure(run)


def test_a_detector_has_its_own_scores_and_no_number_of_predicted_classes(tmp_path):
    run = made_box_run(tmp_path, "a", ap=30.0, teacher_weights="0123")
    got, teacher = measure(run), measure_teacher(run, None)
    assert (got.last, got.best, got.best_epoch) == (30.0, 30.0, 12)
    assert got.further == {"ap50": 45.0, "ap75": 27.0, "ap_small": 15.0, "ap_medium": 33.0}
    assert (got.ece, got.agreement, got.kl_to_teacher, got.val_loss) == (None,) * 4
    assert (teacher.score, teacher.further["ap50"], teacher.ece) == (42.0, 63.0, None)
    stored = detections_of(run), teacher_detections_of(run)
    own, its = (average_precision(one.objects, one.found, 3) for one in stored)
    assert got.per_class == own.per_class
    assert teacher.per_class == its.per_class


def test_a_detector_without_its_detections_is_refused_with_what_to_do(tmp_path):
    run = made_box_run(tmp_path, "a")
    run.predictions.write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"detections\.safetensors.*remove it and run the run's command again"):
        measure(run)
    run.predictions.unlink()
    with pytest.raises(InputError, match=r"detections\.safetensors is missing; run the run's command again"):
        measure(run)
