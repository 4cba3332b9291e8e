from __future__ import annotations

import math
import shutil

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report import summary as module
from stillroom.report.aggregate import Comparison, read_comparison
from stillroom.report.page_charts import score_curves
from stillroom.report.page_tables import tables_of
from stillroom.report.summary import left_out, summarize
from stillroom.report.verdict import verdict
from tests.report.conftest import LASTS, measures, method_of


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


def test_one_seed_of_real_runs_is_tested_over_images_and_said_to_speak_of_no_methods(trained_comparison, runs):
    comparison = read_comparison([runs / name for name in ("ce-s0", "kd-s0", "ldrld-s0")])
    said = []
    (got,) = summarize(comparison, said.append)
    one = method_of(got, "ldrld(depth=3)").difference
    lasts = [RunFolder(runs / name).summary()["last"]["val_top1"] for name in ("ldrld-s0", "kd-s0")]
    assert one.mean == pytest.approx(lasts[0] - lasts[1])
    assert (one.basis, one.seeds) == ("images", 1)
    assert "It compares these two students on these images, not the methods" in "\n".join(verdict(got, "kd"))
    assert said == [
        "measuring ce-s0",
        "measuring kd-s0",
        "measuring ldrld-s0",
        "measuring the teacher of medium → small",
    ]
    teacher = RunFolder(runs / "kd-s0").summary()["teacher"]["top1"]
    assert got.teacher.score == teacher
    assert f"The teacher reaches {teacher:.2f} %" in verdict(got, "kd")[0]


def test_the_teacher_is_measured_on_the_comparisons_own_validation_images(runs, tmp_path):
    shutil.copytree(runs / "kd-s0", tmp_path / "elsewhere" / "kd-s0")
    run = RunFolder(tmp_path / "elsewhere" / "kd-s0")
    run.write_summary(run.summary() | {"teacher": {"top1": 53.25, "top5": 90.0, "loss": 1.0, "count": 40}})
    (got,) = summarize(read_comparison([run.path]))
    assert got.pair.teacher_run is not None  # with another accuracy, on the images of its own run
    assert got.teacher.score == 53.25
    assert "The teacher reaches 53.25 %" in verdict(got, "kd")[0]
    assert tables_of(got, "kd")[0].rows[0].entries[0].text == "53.25"
    own = RunFolder(runs / "teacher").summary()["last"]["val_top1"]
    assert own != 53.25
    (curves, *_) = score_curves(got, {"kd": 1, "teacher": 0})
    assert "the teacher reaches 53.2 %" in curves.text


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
