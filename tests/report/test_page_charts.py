from __future__ import annotations

from dataclasses import replace

from stillroom.report.page_charts import cost_charts, gain_charts, score_curves
from stillroom.report.summary import summarize
from tests.report.conftest import LASTS
from tests.report.pages import made_comparison

METHODS = ("kd", "dkd")
PLACES = {"teacher": 0, "kd": 1, "dkd": 2}


def summary_of(tmp_path, monkeypatch):
    (summary,) = summarize(made_comparison(tmp_path, monkeypatch, ("a", "b"), METHODS))
    return summary


def test_curves_show_accuracy_and_agreement_of_every_method(tmp_path, monkeypatch):
    accuracy, agreement = score_curves(summary_of(tmp_path, monkeypatch), PLACES)
    assert accuracy.caption.startswith("Validation accuracy by epoch. Line: mean over seeds; band")
    assert "kd ends at 40.1 %; dkd ends at 43.2 %" in accuracy.text
    assert agreement.caption.startswith("Agreement with the teacher's predictions, by epoch")


def test_costs_are_time_and_macs_and_the_latter_only_where_they_are_known(tmp_path, monkeypatch):
    summary = summary_of(tmp_path, monkeypatch)
    time, macs = cost_charts(summary, PLACES)
    assert "training time, minutes" in time.text
    assert "million MACs an image: kd 41 and 40.1 %" in macs.text
    unknown = tuple(
        replace(one, measures=tuple(replace(each, macs=None) for each in one.measures)) for one in summary.methods
    )
    assert len(cost_charts(replace(summary, methods=unknown), PLACES)) == 1


def test_gains_are_of_the_other_methods_and_name_the_classes(compared, tmp_path):
    summary = compared(LASTS)
    for cell in summary.pair.cells:
        (cell.run.path / "inputs.json").write_text('{"classes": ["cat", "dog"]}')
    charts = gain_charts(summary, "kd")
    assert set(charts) == {"up", "same", "down"}
    assert charts["up"].caption == "2 of 2 classes gained over kd, 0 lost."
    assert "cat +2.0" in charts["up"].text
