"""The page's tables of a pair."""

from __future__ import annotations

from stillroom.report.aggregate import read_comparison
from stillroom.report.page_tables import tables_of
from stillroom.report.summary import summarize
from tests.report.box_runs import made_box_runs


def test_detectors_have_a_table_of_their_further_scores_with_what_each_means(tmp_path):
    (summary,) = summarize(read_comparison([made_box_runs(tmp_path, ("kd", "ldrld"), seeds=1)]))
    results, further, cost = tables_of(summary, "kd")
    assert results.caption == "AP on the validation images"
    assert "average precision" in results.columns[0].note
    assert [column.head for column in further.columns] == ["AP50 %", "AP75 %", "AP small %", "AP medium %"]
    assert [row.entries[0].text for row in further.rows] == ["63.00", "45.00", "48.00"]
    assert cost.caption == "Cost"
    assert not {"agreement %", "KL to teacher", "ECE %"} & {column.head for column in cost.columns}
