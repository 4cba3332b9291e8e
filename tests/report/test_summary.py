from __future__ import annotations

import io
import json
import math
import shutil

import pytest
from rich.console import Console

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report import summary as module
from stillroom.report.aggregate import Cell, Comparison, Pair, read_comparison
from stillroom.report.metrics import Measures
from stillroom.report.page import _curves
from stillroom.report.page_tables import tables_of
from stillroom.report.summary import left_out, summarize, summary_table, verdict

# Accuracy after the last epoch by method and seed.
LASTS = {
    "kd": {0: 70.0, 1: 71.0, 2: 70.5, 3: 70.3},
    "up": {0: 72.0, 1: 73.1, 2: 72.4, 3: 72.3},
    "same": {0: 70.3, 1: 70.6, 2: 70.9, 3: 70.4},
    "down": {0: 68.0, 1: 69.2, 2: 68.4, 3: 68.2},
}


def measures(last, **changes):
    known = {
        "last": last, "best": last + 0.5, "best_epoch": 3, "ece": 5.0, "agreement": 80.0, "kl_to_teacher": 0.25,
        "val_loss": 1.0, "per_class": (last - 10, last + 10), "parameters": 10, "macs": 20, "seconds": 65.0,
        "images_per_second": 9.0, "peak_memory": None,
    }  # fmt: skip
    return Measures(**{**known, **changes})


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Summaries of made-up accuracies; the runs are folders that hold their settings only."""

    def make(lasts, reference="kd", published=None, exported="last", **changes):
        cells, by_path = [], {}
        for method, by_seed in lasts.items():
            for seed, last in by_seed.items():
                run = RunFolder(tmp_path / f"{method}-{seed}")
                run.path.mkdir(exist_ok=True)
                (run.path / "config.yaml").write_text("{}")
                (run.path / "inputs.json").write_text("{}")
                (run.path / "summary.json").write_text(json.dumps({"exported": exported}))
                cells.append(Cell(run, method, seed))
                by_path[run.path] = measures(last, **changes)
        pair = Pair("resnet56", "resnet20", None, tuple(cells), published or {})
        monkeypatch.setattr(module, "measure", lambda run: by_path[run.path])
        (got,) = summarize(Comparison("t", (pair,), reference, ()))
        return got

    return make


def method_of(summary, name):
    return next(method for method in summary.methods if method.method == name)


def test_means_and_deviations_are_over_seeds(compared):
    got = method_of(compared(LASTS), "kd")
    values = list(LASTS["kd"].values())
    mean = sum(values) / 4
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / 3)
    assert (got.last_mean, got.last_sd) == pytest.approx((mean, deviation))
    assert (got.best_mean, got.best_sd) == pytest.approx((mean + 0.5, deviation))
    assert got.seeds == (0, 1, 2, 3)
    assert [one.last for one in got.measures] == values


def test_measures_stand_in_the_order_of_their_seeds(compared):
    got = method_of(compared({"kd": {5: 1.0, 0: 2.0, 3: 3.0}}), "kd")
    assert got.seeds == (0, 3, 5)
    assert [one.last for one in got.measures] == [2.0, 3.0, 1.0]


def test_each_method_is_compared_with_the_reference_and_corrected_for_all(compared):
    got = compared(LASTS)
    assert method_of(got, "kd").difference is None
    assert method_of(got, "kd").per_class_gain is None
    found = {name: method_of(got, name).difference for name in ("up", "same", "down")}
    assert [one.verdict for one in found.values()] == ["better", "not distinguishable", "worse"]
    assert found["up"].mean == pytest.approx(2.0)
    assert all(one.p_adjusted >= one.p for one in found.values())
    assert max(one.p for one in found.values()) == max(one.p_adjusted for one in found.values())


def test_gains_by_class_are_means_over_common_seeds(compared):
    got = method_of(compared({"kd": {0: 50.0, 1: 60.0}, "x": {0: 51.0, 1: 64.0, 2: 0.0}}), "x")
    assert got.per_class_gain == pytest.approx((2.5, 2.5))


def test_methods_without_a_common_seed_are_not_told_apart(compared):
    got = compared({"kd": {0: 50.0}, "x": {1: 90.0}})
    assert method_of(got, "x").difference.mean is None
    assert method_of(got, "x").per_class_gain is None
    assert any("x (no seed in common)" in line for line in verdict(got, "kd"))


def test_a_pair_without_the_reference_is_summed_up_and_says_so(compared):
    got = compared({"x": {0: 50.0, 1: 51.0}}, reference="kd")
    assert method_of(got, "x").difference is None
    assert any("No run of kd is finished for this pair" in line for line in verdict(got, "kd"))


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
    assert "with 4 seeds it cannot go below p 0.125" in text
    assert "corrected for the 3 comparisons of this pair (Benjamini-Hochberg)" in text
    assert "best epoch is chosen by the images it is then measured on" in text
    assert "McNemar" not in text


def test_a_best_epoch_without_last_weights_leaves_one_seed_untested(compared):
    got = compared({"kd": {0: 50.0}, "x": {0: 90.0}}, exported="best")
    assert method_of(got, "x").difference.p is None
    text = "\n".join(verdict(got, "kd"))
    assert "x (+40.00 points, no test, 1 seed)" in text
    assert "leaves nothing to test" in text
    assert "t-test" not in text


def shown(table):
    console = Console(width=250, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_methods_that_ran_with_other_settings_are_named(compared):
    got = compared(LASTS)
    assert "same settings" not in "\n".join(verdict(got, "kd"))
    for cell in got.pair.runs("up"):
        (cell.run.path / "config.yaml").write_text("lr: 0.01")
    for cell in got.pair.cells:
        if cell.method != "up":
            (cell.run.path / "config.yaml").write_text("lr: 0.05")
    assert "Not all methods ran with the same settings: lr is 0.05, but 0.01 for “up”." in verdict(got, "kd")


def test_the_terminal_table_has_a_row_a_method_with_spread_interval_and_verdict(compared):
    summary = compared(LASTS, published={"up": 73.25})
    table = summary_table(summary, "kd")
    text = shown(table)
    assert table.row_count == 4
    assert "resnet56 → resnet20, compared with kd" in text
    up = next(line for line in text.splitlines() if "│ up" in line)
    for cell in ("72.45 ± 0.47", "72.95 ± 0.47", "better", "80.00", "0.250", "5.00", "1:05", "73.25"):
        assert cell in up
    assert "reference" in next(line for line in text.splitlines() if "│ kd" in line)


def test_the_table_has_no_column_for_published_accuracy_where_there_is_none(compared):
    assert "published" not in shown(summary_table(compared(LASTS), "kd"))


def test_one_seed_of_real_runs_is_tested_over_images_and_said_to_speak_of_no_methods(trained_comparison, runs):
    comparison = read_comparison([runs / name for name in ("ce-s0", "kd-s0", "ldrld-s0")])
    said = []
    (got,) = summarize(comparison, said.append)
    one = method_of(got, "ldrld(depth=3)").difference
    lasts = [RunFolder(runs / name).summary()["last"]["val_top1"] for name in ("ldrld-s0", "kd-s0")]
    assert one.mean == pytest.approx(lasts[0] - lasts[1])
    assert (one.basis, one.seeds) == ("images", 1)
    assert "It speaks of these two students on these images, not of the methods" in "\n".join(verdict(got, "kd"))
    assert said == [
        "measuring ce-s0",
        "measuring kd-s0",
        "measuring ldrld-s0",
        "measuring the teacher of medium → small",
    ]
    teacher = RunFolder(runs / "kd-s0").summary()["teacher"]["top1"]
    assert got.teacher.accuracy == teacher
    assert f"The teacher reaches {teacher:.2f} %" in verdict(got, "kd")[0]


def test_the_teacher_is_measured_on_the_comparisons_own_validation_images(runs, tmp_path):
    shutil.copytree(runs / "kd-s0", tmp_path / "elsewhere" / "kd-s0")
    run = RunFolder(tmp_path / "elsewhere" / "kd-s0")
    run.write_summary(run.summary() | {"teacher": {"top1": 53.25, "top5": 90.0, "loss": 1.0, "count": 40}})
    (got,) = summarize(read_comparison([run.path]))
    assert got.pair.teacher_run is not None  # with another accuracy, on the images of its own run
    assert got.teacher.accuracy == 53.25
    assert "The teacher reaches 53.25 %" in verdict(got, "kd")[0]
    assert tables_of(got, "kd")[0].rows[0].entries[0].text == "53.25"
    own = RunFolder(runs / "teacher").summary()["last"]["val_top1"]
    assert own != 53.25
    (curves, *_) = _curves(got, {"kd": 1, "teacher": 0})
    assert "the teacher reaches 53.2 %" in curves.text


def test_one_method_alone_is_not_called_the_best(compared):
    line = verdict(compared({"labels only": {3: 70.0}}, "labels only"), "labels only")[0]
    assert line == (
        "resnet56 → resnet20: labels only reaches 70.00 % after the last epoch (seed 3). "
        "There is no other method to compare it with."
    )
    assert "70.50 ± 0.71 % (2 seeds)" in verdict(compared({"kd": {0: 70.0, 1: 71.0}}), "kd")[0]


def test_a_run_that_cannot_be_measured_is_left_out_and_named(compared, monkeypatch):
    lasts = {"kd": {0: 50.0, 1: 51.0, 2: 50.5}, "x": {0: 52.0, 1: 53.0, 2: 52.5}}
    whole = compared(lasts)
    known = module.measure

    def measure(run):
        if run.path.name == "x-1":
            raise InputError(f"{run.path}: it diverged")
        return known(run)

    monkeypatch.setattr(module, "measure", measure)
    (got,) = summarize(Comparison("t", (whole.pair,), "kd", ()))
    assert method_of(got, "x").seeds == (0, 2)
    assert method_of(got, "kd").seeds == (0, 1, 2)
    assert any(line.startswith("x with seed 1 (x-1) is left out") for line in verdict(got, "kd"))
    monkeypatch.setattr(module, "measure", lambda run: measure(RunFolder(run.path.with_name("x-1"))))
    with pytest.raises(InputError, match="it diverged"):
        summarize(Comparison("t", (whole.pair,), "kd", ()))


def test_a_teacher_that_is_gone_is_named_in_the_verdict(runs):
    path = runs / "kd-s0" / "config.yaml"
    path.write_text(path.read_text().replace(RunFolder(runs / "kd-s0").config()["teacher"], "gone/big"))
    (got,) = summarize(read_comparison([runs / "kd-s0"]))
    assert any("teacher=gone/big is not there any more" in line for line in verdict(got, "kd"))


def test_a_pair_that_cannot_be_measured_is_said_where_another_can(compared, monkeypatch):
    good, bad = compared({"kd": {0: 50.0}}).pair, compared({"x": {0: 50.0}}).pair

    def measure(run):
        if run.path.name == "x-0":
            raise InputError(f"{run.path}: its images are gone")
        return measures(50.0)

    monkeypatch.setattr(module, "measure", measure)
    comparison = Comparison("t", (good, bad), "kd", ())
    (got,) = left_out(comparison, summarize(comparison))
    assert got.name == "x-0"
    assert "its images are gone" in got.sentence


def test_a_teacher_that_cannot_be_built_again_is_said_though_its_logits_are_kept(runs):
    summarize(read_comparison([runs / "kd-s0"]))
    config = runs / "teacher" / "config.yaml"
    config.write_text(config.read_text().replace(RunFolder(runs / "teacher").config()["model"], "stranger:make"))
    for run in (runs / "kd-s0", runs / "ce-s0"):
        settings = run / "config.yaml"
        settings.write_text(settings.read_text().replace(RunFolder(run).config()["teacher"], str(runs / "teacher")))
    (got,) = summarize(read_comparison([runs / "kd-s0"]))
    assert got.teacher.macs is None
    (line,) = [line for line in verdict(got, "kd") if "stranger:make" in line]
    assert line.startswith("The teacher is missing in what has to build it again")
    assert "--trust" in line
