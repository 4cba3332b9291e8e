from __future__ import annotations

import json

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.report.page import write_report
from stillroom.report.summary import left_out, summarize
from stillroom.report.usable_runs import last_score, unusable_reason
from tests.report.box_runs import made_box_run
from tests.report.pages import made_comparison, made_run
from tests.report.test_page import checked


def test_a_sound_run_has_no_trouble(tmp_path):
    run = made_run(tmp_path, "a", ["x", "y"], last=60.0)
    assert (unusable_reason(run), last_score(run)) == ("", 60.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_run_whose_last_loss_is_no_number_diverged(tmp_path, value):
    run = made_run(tmp_path, "a", ["x", "y"])
    run.write_epochs([*run.epochs(), {"epoch": 13, "val_loss": value, "val_top1": 50.0}])
    assert unusable_reason(run).startswith(f"it diverged (val_loss is {value}")


def test_a_bad_epoch_on_the_way_is_a_gap_in_the_curve_and_the_left_out_are_on_the_page(tmp_path, monkeypatch):
    comparison = made_comparison(tmp_path, monkeypatch, ("a", "b"), ("kd", "dkd"))
    run = comparison.pairs[0].cells[0].run
    rows = run.epochs()
    rows[3] |= {"val_top1": float("nan"), "agreement": None}
    run.write_epochs(rows)
    assert unusable_reason(run) == ""
    comparison = type(comparison)(
        comparison.title, comparison.pairs, "kd", (), (*left_out_of(tmp_path / "bad" / "kd-s9"),)
    )
    summaries = summarize(comparison)
    assert [one.name for one in left_out(comparison, summaries)] == ["kd-s9"]
    write_report(tmp_path / "page.html", comparison, summaries, views=False)
    text = checked(tmp_path / "page.html")
    assert "nan" not in text.replace("divergence", "").lower().split("<h2>left out</h2>")[0].partition("</style>")[2]
    assert "<h2>Left out</h2>" in text
    assert "kd-s9" in text


def left_out_of(path):
    from stillroom.report.aggregate import read_comparison

    sound = made_run(path.parent, "kd-s0", ["a", "b"])
    (path).mkdir()
    for name in ("config.yaml", "inputs.json"):
        (path / name).write_text((sound.path / name).read_text())
    row = {"epoch": 1, "val_loss": float("nan"), "val_top1": 50.0}
    (path / "metrics.jsonl").write_text(json.dumps(row))
    (path / "summary.json").write_text(json.dumps({"last": row, "best": row}))
    return read_comparison([RunFolder(path.parent).path]).pairs[0].left_out


def test_a_detector_without_ap_says_why_and_one_whose_loss_is_no_number_diverged(tmp_path):
    run = made_box_run(tmp_path, "a", ap=30.0)
    assert (unusable_reason(run), last_score(run)) == ("", 30.0)
    last = run.epochs()[-1]
    run.write_summary(run.summary() | {"last": last | {"val_ap": None}})
    assert "AP was not measured" in unusable_reason(run)
    broken = last | {"val_ap": None, "loss": float("nan")}
    run.write_epochs([broken])
    run.write_summary(run.summary() | {"last": broken})
    assert unusable_reason(run).startswith("it diverged (loss is nan")
