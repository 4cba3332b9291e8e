from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from stillroom.report.comparison_file import TunedMethod, read_description
from stillroom.report.comparison_table import comparison_rows
from stillroom.report.page_tables import tables_of
from stillroom.report.table_export import write_table
from stillroom.report.tuning_verdict import tuning_sentences
from stillroom.report.verdict import verdict
from tests.report.conftest import LASTS

LIKE = TunedMethod(".", trials=12, epochs=96, hold_out=0.1)
BUDGET = "12 trials with 96 epochs in all, judged on 10 % of the training images, which were held out"


@pytest.fixture
def summary(compared):
    return compared({name: LASTS[name] for name in ("kd", "up", "same")})


def tuned(summary, **entries):
    return replace(summary, pair=replace(summary.pair, tuned=entries))


def test_equal_budgets_are_said_once(summary):
    found = tuned(summary, kd=LIKE, up=LIKE, same=LIKE)
    assert tuning_sentences(found.pair) == [f"All methods were tuned with equal budgets: each {BUDGET}."]
    assert tuning_sentences(found.pair)[0] in verdict(found, "kd")


def test_untuned_methods_are_named_in_the_verdict_and_in_every_table(summary, tmp_path):
    found = tuned(summary, kd=LIKE, up=LIKE)
    assert tuning_sentences(found.pair) == [
        f"kd, up were tuned with equal budgets: each {BUDGET}.",
        "Not tuned: same. The comparison with tuned methods is not fair to it.",
    ]
    assert [row[0] for row in comparison_rows(found, "kd")[1:]] == ["kd", "up", "same (untuned)"]
    for table in tables_of(found, "kd"):
        assert {row.name: row.remark for row in table.rows} == {"kd": "", "up": "", "same": "untuned"}
    for name in ("a.md", "a.tex"):
        write_table(tmp_path / name, [found], "kd")
        assert "same (untuned)" in (tmp_path / name).read_text()
    write_table(tmp_path / "a.csv", [found], "kd")
    with (tmp_path / "a.csv").open() as file:
        assert {(row["method"], row["tuned"]) for row in csv.DictReader(file)} == {
            ("kd", "True"), ("up", "True"), ("same", "False"),
        }  # fmt: skip


def test_unequal_budgets_and_other_settings_are_named(summary):
    more = replace(LIKE, trials=24, other={"epochs": (40, 80)})
    lines = tuning_sentences(tuned(summary, kd=LIKE, up=more, same=LIKE).pair)
    assert lines[0] == (
        f"The methods were tuned with unequal budgets: kd, same: {BUDGET}; up: {BUDGET.replace('12', '24')}."
    )
    assert lines[1:] == ["The trials of the tuning had other settings than these runs: epochs 40, here 80."]


def test_the_settings_that_tuning_found_are_not_called_different_ones(summary):
    for cell in summary.pair.cells:
        (cell.run.path / "config.yaml").write_text(f"lr: 0.0{len(cell.method)}")
    assert any("same settings" in line for line in verdict(summary, "kd"))
    assert not any("same settings" in line for line in verdict(tuned(summary, kd=LIKE, up=LIKE, same=LIKE), "kd"))


def test_without_a_tuning_nothing_is_said_of_it(summary, tmp_path):
    assert tuning_sentences(summary.pair) == []
    assert not any("tuned" in line for line in verdict(summary, "kd"))
    write_table(tmp_path / "a.csv", [summary], "kd")
    assert "tuned" not in (tmp_path / "a.csv").read_text()


@pytest.mark.parametrize(
    "entry", ["x", "{folder: a, trials: 3, epochs: 9}", "{folder: 1, trials: 3, epochs: 9, hold_out: 0.1}"]
)
def test_a_damaged_entry_is_refused(entry, tmp_path):
    (tmp_path / "comparison.yaml").write_text(f"tuned: {{kd: {entry}}}")
    with pytest.raises(ValueError, match="is missing or of the wrong kind"):
        read_description(tmp_path)
