from __future__ import annotations

import json

from stillroom.report.aggregate import read_comparison
from stillroom.report.summary import summarize
from stillroom.report.verdict import verdict
from tests.report.box_runs import made_box_runs
from tests.report.conftest import LASTS, method_of


def test_the_verdict_in_words_names_every_method_once_and_how_it_was_reached(compared):
    lines = verdict(compared(LASTS), "kd")
    text = "\n".join(lines)
    assert "up has the highest mean accuracy after the last epoch, 72.45 ± 0.47 % (4 seeds)" in lines[0]
    assert next(line for line in lines if line.startswith("Better than kd")).startswith(
        "Better than kd: up (+2.00 points"
    )
    assert sum(line.startswith("Worse than kd: down (−2.00 points") for line in lines) == 1
    assert sum(line.startswith("Not distinguishable from kd: same (+0.10 points") for line in lines) == 1
    assert "paired t-test" in text
    assert "with 4 seeds its p is at least 0.125" in text
    assert "corrected for the 3 comparisons of this pair (Benjamini-Hochberg)" in text
    assert "best epoch is selected on the validation set" in text
    assert "McNemar" not in text


def test_a_best_epoch_without_last_weights_leaves_one_seed_untested(compared):
    got = compared({"kd": {0: 50.0}, "x": {0: 90.0}}, exported="best")
    assert method_of(got, "x").difference.p is None
    text = "\n".join(verdict(got, "kd"))
    assert "x (+40.00 points, no test, 1 seed)" in text
    assert "there is nothing to test" in text
    assert "t-test" not in text


def test_best_epochs_of_early_stopping_are_not_called_biased(compared):
    got = compared(LASTS)
    for number, cell in enumerate(got.pair.cells):
        path = cell.run.path / "summary.json"
        early = {"early_stop": {"stopped": True, "epoch": 4, "best_epoch": 2, "images": 9}}
        path.write_text(json.dumps(json.loads(path.read_text()) | early))
        if number == 0:
            assert "optimistically biased" in verdict(got, "kd")[-1]
    assert verdict(got, "kd")[-1].startswith("The best epoch is selected on training images that were held out")


def test_methods_that_ran_with_other_settings_are_named(compared):
    got = compared(LASTS)
    assert "same settings" not in "\n".join(verdict(got, "kd"))
    for cell in got.pair.runs("up"):
        (cell.run.path / "config.yaml").write_text("lr: 0.01")
    for cell in got.pair.cells:
        if cell.method != "up":
            (cell.run.path / "config.yaml").write_text("lr: 0.05")
    assert "Not all methods ran with the same settings: lr is 0.05, but 0.01 for “up”." in verdict(got, "kd")


def test_one_method_alone_is_not_called_the_best(compared):
    line = verdict(compared({"labels only": {3: 70.0}}, "labels only"), "labels only")[0]
    assert line == (
        "resnet56 → resnet20: labels only reaches 70.00 % after the last epoch (seed 3). "
        "There is no other method to compare it with."
    )
    assert "70.50 ± 0.71 % (2 seeds)" in verdict(compared({"kd": {0: 70.0, 1: 71.0}}), "kd")[0]


def test_a_teacher_whose_predictions_are_gone_is_named(runs):
    next(runs.glob("teacher-*.safetensors")).unlink()
    (got,) = summarize(read_comparison([runs / "kd-s0"]))
    (line,) = [
        line for line in verdict(got, "kd") if line.startswith("The students' KL divergence from the teacher is")
    ]
    assert "are not beside the run kd-s0" in line


def test_a_detector_is_judged_by_its_ap_and_one_seed_of_it_is_not_tested(tmp_path):
    lines = verdict(*summarize(read_comparison([made_box_runs(tmp_path / "three", ("kd", "ldrld"))])), "kd")
    assert "ldrld has the highest mean AP after the last epoch" in lines[0]
    assert "The teacher reaches AP 42.00 %" in lines[0]
    assert lines[1].startswith("Better than kd: ldrld (+2.")
    assert not [line for line in lines if "accuracy" in line or "KL" in line]
    once = "\n".join(verdict(*summarize(read_comparison([made_box_runs(tmp_path / "one", ("kd", "x"), 1)])), "kd"))
    assert "With one common seed there is nothing to test: AP is no mean over images. Run more seeds." in once
    assert "x (+2.00 points, no test, 1 seed)" in once
