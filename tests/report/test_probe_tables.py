"""Tables of probes: a row for each method, mean ± standard deviation over seeds, intervals of single runs."""

from __future__ import annotations

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.report import probe_tables as tables
from stillroom.report.aggregate import Pair, PlacedRun
from stillroom.report.probe_columns import ProbeColumn, ProbeTable, number
from stillroom.report.probe_record import ProbeResult, student_record, write_probe
from stillroom.report.probe_tables import probe_tables, probes_of


@pytest.fixture
def pair(tmp_path, monkeypatch) -> Pair:
    """Two methods of two seeds and one of one seed, without a teacher, and one table with a relative column."""
    monkeypatch.setattr(tables, "teacher_record", lambda run: run.path.parent / "teacher.json")
    monkeypatch.setattr(
        tables, "PROBE_TABLES",
        {"ood": ProbeTable("Against {on}", (
            ProbeColumn("a", "number", number("a"), interval=number("half")),
            ProbeColumn("relative", "to the reference", lambda own, base: base and own["a"] / base["a"]),
            ProbeColumn("never", "there", number("never")),
        ))},
    )  # fmt: skip
    cells = []
    for method, seed, value in (("ce", 0, 2.0), ("ce", 1, 4.0), ("kd", 0, 6.0), ("kd", 1, 6.0), ("at", 5, 3.0)):
        run = RunFolder(tmp_path / f"{method}-s{seed}")
        run.path.mkdir()
        write_probe(student_record(run), "ood", "x", ProbeResult({}, {"a": value, "half": 0.5}))
        cells.append(PlacedRun(run, method, seed))
    return Pair("t", "s", None, tuple(cells), {})


def rows(table) -> dict[str, list[str]]:
    return {row.name: [entry.text for entry in row.entries] for row in table.rows}


def test_rows_are_means_over_seeds_in_the_order_of_the_methods(pair, tmp_path):
    write_probe(tmp_path / "teacher.json", "ood", "x", ProbeResult({}, {"a": 8.0, "half": 0.25}))
    (table,) = probe_tables(pair, probes_of(pair), "ce")
    assert table.caption == "Against x"
    assert [column.head for column in table.columns] == ["a", "relative"]
    assert rows(table) == {
        "teacher": ["8.00 ± 0.25", "4.00"],
        "ce": ["3.00 ± 1.41", "1.00 ± 0.00"],
        "kd": ["6.00 ± 0.00", "2.25 ± 1.06"],  # each seed relative to the reference of the same seed
        "at": ["3.00 ± 0.50", "1.50"],  # no reference of its seed: relative to the first
    }
    assert [row.role for row in table.rows] == ["teacher", "reference", "", ""]
    assert table.rows[1].entries[0].note == "2.00, 4.00"


def test_without_a_reference_relative_numbers_are_left_out(pair):
    (table,) = probe_tables(pair, probes_of(pair), "none of them")
    assert [column.head for column in table.columns] == ["a"]


def test_only_chosen_probes_with_numbers_are_shown(pair):
    assert probe_tables(pair, probes_of(pair), "ce", chosen=["cost"]) == []


def test_a_damaged_record_is_told_and_the_others_are_shown(pair):
    student_record(pair.cells[0].run).write_text("{")
    probes = probes_of(pair)
    assert len(probes.notes) == 1
    assert "ce-s0" in probes.notes[0]
    (table,) = probe_tables(pair, probes, "ce")
    assert rows(table)["ce"][0] == "4.00 ± 0.50"
