"""The page's tables about detectors."""

from __future__ import annotations

import pytest

from stillroom.report.aggregate import read_comparison
from stillroom.report.box_tables import KINDS, class_table, error_tables
from stillroom.report.run_detections import detections_of
from stillroom.report.summary import summarize
from stillroom.tasks import box_errors as module
from tests.report.box_runs import CLASSES, made_box_runs


@pytest.fixture
def summary(tmp_path):
    return summarize(read_comparison([made_box_runs(tmp_path, ("kd", "ldrld"), seeds=2)]))[0]


def test_every_class_has_the_mean_ap_of_each_network(summary):
    table = class_table(summary, "kd")
    assert [row.name for row in table.rows] == list(CLASSES)
    assert [column.head for column in table.columns] == ["teacher", "kd", "ldrld"]
    one, other = (measures.per_class[1] for measures in summary.methods[0].measures)
    assert table.rows[1].entries[1].order == pytest.approx((one + other) / 2)


def test_every_kind_of_error_has_a_cost_and_a_count_for_each_network(summary):
    assert KINDS.keys() == set(module.KINDS)
    costs, counts = error_tables(summary, "kd")
    assert [row.name for row in costs.rows] == [row.name for row in counts.rows] == ["teacher", "kd", "ldrld"]
    each = [module.box_errors(one.objects, one.found) for one in
            (detections_of(cell.run) for cell in summary.pair.runs("kd"))]  # fmt: skip
    place = [column.head for column in costs.columns].index("missed")
    assert costs.rows[1].entries[place].order == pytest.approx(sum(one.gains["missed"] for one in each) / 2)
    assert counts.rows[1].entries[place].order == pytest.approx(sum(one.counts["missed"] for one in each) / 2)
