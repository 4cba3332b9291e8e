from __future__ import annotations

import io

from rich.console import Console

from stillroom.report.aggregate import read_comparison
from stillroom.report.comparison_table import comparison_rows, comparison_table
from stillroom.report.summary import summarize
from tests.report.box_runs import made_box_runs
from tests.report.conftest import LASTS


def shown(table):
    console = Console(width=250, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_the_terminal_table_has_a_row_a_method_with_spread_interval_and_verdict(compared):
    summary = compared(LASTS, published={"up": 73.25})
    table = comparison_table(summary, "kd")
    text = shown(table)
    assert table.row_count == 4
    assert "resnet56 → resnet20, compared with kd" in text
    up = next(line for line in text.splitlines() if "│ up" in line)
    for cell in ("72.45 ± 0.47", "72.95 ± 0.47", "better", "80.00", "0.250", "5.00", "1:05", "73.25"):
        assert cell in up
    assert "reference" in next(line for line in text.splitlines() if "│ kd" in line)


def test_the_table_has_no_column_for_published_accuracy_where_there_is_none(compared):
    assert "published" not in shown(comparison_table(compared(LASTS), "kd"))


def test_runs_of_a_detector_have_its_scores_and_no_column_of_predicted_classes(tmp_path):
    (pair,) = summarize(read_comparison([made_box_runs(tmp_path, ("kd", "ldrld"), seeds=2)]))
    head, kd, _ = comparison_rows(pair, "kd")
    assert head[7:] == ["AP50", "AP75", "AP small", "AP medium", "train time"], "no object is large"
    assert kd[2] == "30.10 ± 0.14"
    assert kd[7:11] == ["45.15", "27.09", "15.05", "33.11"]
