from __future__ import annotations

import io

import pytest
from rich.console import Console

from stillroom.report.runs_table import read_row, short_nats, summary_table
from tests.report.pages import made_run


def test_rows_hold_best_last_and_median_speed(tmp_path):
    got = read_row(made_run(tmp_path, "r", ["a", "b"], last=60.0))
    assert got.cells() == ("r", "1,234,567", "60.00", "60.00", "30.00", "1:30", "100")


def test_the_terminal_table_has_every_run(tmp_path):
    table = summary_table([made_run(tmp_path, name, ["a", "b"]) for name in ("a", "b")])
    assert table.row_count == 2


@pytest.mark.parametrize(
    ("nats", "text"), [(0.0, "0.000"), (0.0807, "0.081"), (12.34567, "12.346"), (5.22e12, "5.2e+12")]
)
def test_divergences_stay_short(nats, text):
    assert short_nats(nats) == text


def test_a_teacher_without_a_row_has_one_with_its_accuracy_on_the_students_images(tmp_path):
    student = made_run(tmp_path, "student", ["a", "b"], teacher=str(tmp_path / "teacher"))
    student.write_summary(student.summary() | {"teacher": {"top1": 53.25}, "teacher_parameters": 1000})
    console = Console(width=200, file=io.StringIO())
    console.print(summary_table([student]))
    row = next(line for line in console.file.getvalue().splitlines() if "teacher" in line)
    assert [cell.strip() for cell in row.split("│")[1:5]] == ["teacher", "1,000", "–", "53.25"]
    assert summary_table([student, made_run(tmp_path, "teacher", ["a", "b"])]).row_count == 2
