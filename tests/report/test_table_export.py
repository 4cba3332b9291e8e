from __future__ import annotations

import csv
from pathlib import Path

import pytest

from stillroom.errors import InputError
from stillroom.report.aggregate import read_comparison
from stillroom.report.summary import summarize
from stillroom.report.table_export import write_table
from stillroom.report.verdict import verdict
from tests.report.box_runs import made_box_runs
from tests.report.pages import made_comparison

METHODS = ("kd", "0.1*ce + a_b(c=1)")


@pytest.fixture
def summaries(tmp_path, monkeypatch):
    return summarize(made_comparison(tmp_path, monkeypatch, ("a", "b"), METHODS, pairs=2, published={"kd": 43.25}))


def written(tmp_path: Path, name: str, summaries) -> str:
    write_table(tmp_path / name, summaries, "kd")
    return (tmp_path / name).read_text("utf-8")


def test_markdown_has_a_table_and_the_verdict_of_every_pair(tmp_path, summaries):
    text = written(tmp_path, "result.md", summaries)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    for pair, summary in enumerate(summaries):
        head, _, *body = rows[4 * pair : 4 * pair + 4]
        assert [row[0] for row in body] == ["kd", r"0.1\*ce + a\_b(c=1)"]
        assert [row[head.index("last %")] for row in body] == ["40.10 ± 0.14", "43.15 ± 0.21"]
        assert [row[head.index("published %")] for row in body] == ["43.25", "–"]
        assert body[0][head.index("verdict")] == "reference"
        assert f"big → small{pair}" in text
        for line in verdict(summary, "kd"):
            assert line.replace("*", r"\*").replace("_", r"\_") in text


def test_latex_is_a_booktabs_table_whose_characters_are_safe(tmp_path, summaries):
    text = written(tmp_path, "result.tex", summaries)
    assert text.count(r"\begin{tabular}{lr") == text.count(r"\bottomrule") == 2
    assert r"0.1*ce + a\_b(c=1)" in text
    for line in text.splitlines():
        assert "%" not in line.replace(r"\%", "") or line.startswith("% ")


def test_csv_has_a_row_a_run_with_the_numbers_unrounded(tmp_path, summaries):
    rows = list(csv.DictReader(written(tmp_path, "result.csv", summaries).splitlines()))
    assert [(row["student"], row["method"], row["seed"]) for row in rows] == [
        (student, method, seed) for student in ("small0", "small1") for method in METHODS for seed in "01"
    ]
    assert [float(row["last"]) for row in rows[:4]] == [one.last for m in summaries[0].methods for one in m.measures]
    assert rows[0]["peak_memory"] == ""
    assert "per_class" not in rows[0]


def test_another_kind_of_file_is_refused_and_nothing_written(tmp_path, summaries):
    with pytest.raises(InputError, match=r"result.xlsx: the name must end in .md, .tex, .csv"):
        write_table(tmp_path / "result.xlsx", summaries, "kd")
    assert not (tmp_path / "result.xlsx").exists()


def test_labels_from_elsewhere_are_text_in_every_table(tmp_path, monkeypatch):
    """A line break would end LaTeX's comment, and a spreadsheet takes what begins with = for a formula."""
    methods = ("kd\n\\input{secret}", '=HYPERLINK("http://x")', "+1", "@x")
    summaries = summarize(made_comparison(tmp_path, monkeypatch, ("a", "b"), methods))
    write_table(tmp_path / "result.tex", summaries, methods[0])
    lines = (tmp_path / "result.tex").read_text("utf-8").splitlines()
    assert not [line for line in lines if line.lstrip().startswith("\\input")]
    write_table(tmp_path / "result.csv", summaries, methods[0])
    rows = list(csv.DictReader((tmp_path / "result.csv").open(encoding="utf-8", newline="")))
    assert {row["method"][0] for row in rows} == {"k", "'"}


def test_csv_of_detectors_has_their_scores_and_none_of_predicted_classes(tmp_path):
    summaries = summarize(read_comparison([made_box_runs(tmp_path / "runs", ("kd",), seeds=1)]))
    (row,) = csv.DictReader(written(tmp_path, "result.csv", summaries).splitlines())
    assert (row["last"], row["ap50"], row["ap_large"]) == ("30.0", "45.0", "")
    assert not {"ece", "agreement", "kl_to_teacher", "val_loss", "per_class", "further"} & row.keys()
    assert "teacher AP 42.00 %" in written(tmp_path, "result.md", summaries)
