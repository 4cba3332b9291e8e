"""Columns of probes: numbers are taken out of nested results, and what is missing is None."""

from __future__ import annotations

import pytest

from stillroom.report.probe_columns import PROBE_TABLES, number


def test_numbers_are_found_by_their_path():
    results = {"a": {"b": 2, "text": "x", "none": None}, "c": 1.5}
    assert number("a", "b")(results, None) == 2
    assert number("c", scale=100)(results, None) == 150
    for path in (("a", "none"), ("a", "text"), ("a", "b", "c"), ("missing",)):
        assert number(*path)(results, None) is None


@pytest.mark.parametrize("probe", PROBE_TABLES)
def test_headings_are_different_and_explained(probe):
    columns = PROBE_TABLES[probe].columns
    assert len({column.head for column in columns}) == len(columns)
    assert all(column.note for column in columns)
