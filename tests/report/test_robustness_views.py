import pytest

from stillroom.report.aggregate import read_comparison
from stillroom.report.page import write_report
from stillroom.report.probe_record import ProbeResult, student_record, write_probe
from stillroom.report.probe_tables import probes_of
from stillroom.report.robustness_views import robustness_views
from stillroom.report.summary import summarize

PIXEL = "data:image/png;base64,AAAA"


def results(fog: list[float], snow: list[float], **other) -> ProbeResult:
    mean = (sum(fog) + sum(snow)) / 4
    return ProbeResult(
        {}, {"clean": 80.0, "severities": [1, 5], "accuracy": {"fog": fog, "motion_blur": snow}, "mean": mean, **other}
    )


@pytest.fixture
def probed(runs):
    """A comparison of which all runs were probed; the seeds of kd have 60 and 40 % accuracy under fog."""
    comparison = read_comparison([runs])
    for cell in comparison.pairs[0].cells:
        fog = [70.0, 50.0] if cell.method != "kd" or cell.seed == 0 else [50.0, 30.0]
        found = results(fog, [60.0, 20.0], examples={"as it is": PIXEL, "motion_blur": PIXEL})
        write_probe(student_record(cell.run), "robustness", "C-style", found)
    return comparison


def test_rows_are_corruptions_and_cells_are_means_over_severities_and_seeds(probed):
    pair = probed.pairs[0]
    (view,) = robustness_views(pair.methods, probes_of(pair), dict.fromkeys(pair.methods, 1))
    place = [heading.head for heading in view.table.columns].index("kd")
    assert [row.name for row in view.table.rows] == ["fog", "motion blur"]
    seeds = len(pair.runs("kd"))
    assert view.table.rows[0].entries[place].order == pytest.approx((60 + 40 * (seeds - 1)) / seeds)
    assert view.table.rows[1].entries[place].text == "40.0 ± 0.0"


def test_the_curve_begins_at_the_clean_accuracy(probed):
    pair = probed.pairs[0]
    (view,) = robustness_views(pair.methods, probes_of(pair), dict.fromkeys(pair.methods, 1))
    assert "falls from 80.0 to 35.0 %" in view.curve.text


def test_the_page_shows_the_table_the_curve_and_the_examples(probed, tmp_path):
    write_report(tmp_path / "index.html", probed, summarize(probed), views=False)
    page = (tmp_path / "index.html").read_text()
    section = page[page.index("<h3>Beyond accuracy") : page.index("<h3>How the runs were made")]
    assert "not the official CIFAR-C or ImageNet-C files" in section
    assert section.count(PIXEL) == 2
    assert 'alt="An image: motion blur"' in section
    assert "mCE %" in section
