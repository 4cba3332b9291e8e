"""The page's section of probes: tables and diagrams where runs were probed, nothing elsewhere."""

from __future__ import annotations

import re

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.report.aggregate import read_comparison
from stillroom.report.page import write_report
from stillroom.report.probe_record import ProbeResult, student_record, teacher_record, write_probe
from stillroom.report.probe_views import joined_bins, probe_section, reliability_chart
from stillroom.report.summary import summarize

EMPTY = {"count": 0, "confidence": None, "accuracy": None}


def bins(count: int, confidence: float, accuracy: float):
    return [*[EMPTY] * 14, {"count": count, "confidence": confidence, "accuracy": accuracy}]


def test_the_diagram_of_seeds_is_that_of_all_their_images():
    joined = joined_bins([bins(10, 0.94, 0.5), bins(30, 0.98, 0.9)])
    assert joined[:14] == [EMPTY] * 14
    assert joined[14] == {"count": 40, "confidence": pytest.approx(0.97), "accuracy": pytest.approx(0.8)}


def test_bins_with_few_images_are_not_drawn():
    few, many = reliability_chart(bins(4, 0.95, 0.2), 1), reliability_chart(bins(5, 0.95, 0.2), 1)
    assert few.count("var(--c1)") == 0
    assert many.count("var(--c1)") > 0


def test_a_page_shows_what_was_probed_and_says_why_something_is_missing(runs, tmp_path):
    comparison = read_comparison([runs])
    pair = comparison.pairs[0]
    assert probe_section(pair, "kd", {}).tables == ()
    result = ProbeResult({}, {"ece": 12.5, "nll": 1.25, "bins": bins(40, 0.95, 0.5)})
    for cell in pair.cells:
        write_probe(student_record(cell.run), "calibration", "validation", result)
    write_probe(teacher_record(pair.cells[0].run), "calibration", "validation", result)
    student_record(RunFolder(runs / "kd-s1")).write_text("[]")
    write_report(tmp_path / "index.html", comparison, summarize(comparison), views=False)
    page = (tmp_path / "index.html").read_text()
    section = page[page.index("<h3>Beyond accuracy") : page.index("<h3>How the runs were made")]
    assert re.search(r"labels only</th><td [^>]*>12\.50 ± 0\.00</td>", section)
    assert section.count('role="img"') == 4  # the teacher and three methods
    assert "100 % of the images are in bins that are overconfident" in section
    assert "Not shown: " in section
    assert "kd-s1" in section
