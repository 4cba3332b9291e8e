from __future__ import annotations

import os

import pytest

from stillroom.cli import main
from stillroom.errors import InputError
from stillroom.report.own_files import PAGE, refuse_foreign
from stillroom.report.page import write_report
from stillroom.report.summary import summarize
from stillroom.report.table_export import check_table, write_table
from tests.report.pages import made_comparison


def test_what_somebody_else_wrote_is_not_replaced(tmp_path, capsys):
    own = tmp_path / "index.html"
    own.write_text("<!doctype html><title>My thesis</title>")
    assert main(["report", str(tmp_path)]) == 2
    assert "was not written by Stillroom and is not replaced" in capsys.readouterr().err
    compare = ["compare", "--teachers", "resnet56", "--students", "resnet20", "--data", "glyphs100"]
    (tmp_path / "bank").mkdir()
    assert main([*compare, "--runs", str(tmp_path.parent), "--name", tmp_path.name]) == 2
    assert main(["demo", "--quick", "--out", str(tmp_path)]) == 2
    assert own.read_text() == "<!doctype html><title>My thesis</title>"
    with pytest.raises(InputError, match="cannot be replaced"):
        refuse_foreign(tmp_path, PAGE, "--out")


def test_pages_and_tables_of_ours_are_written_anew(tmp_path, monkeypatch):
    comparison = made_comparison(tmp_path, monkeypatch, ("a", "b"), ("kd", "dkd"))
    summaries = summarize(comparison)
    tables = [tmp_path / f"result{ending}" for ending in (".md", ".tex", ".csv")]
    for _ in range(2):
        write_report(tmp_path / "page.html", comparison, summaries, views=False)
        for table in tables:
            write_table(table, summaries, "kd")
        written = [tmp_path / "page.html", *tables]
        assert not [path for path in written if path.read_text().endswith("of the first time")]
        for path in written:
            path.write_text(path.read_text() + "of the first time")


@pytest.mark.parametrize("ending", [".md", ".tex", ".csv"])
def test_a_table_of_ones_own_is_not_replaced(tmp_path, ending):
    path = tmp_path / f"results{ending}"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="--table"):
        check_table(path)
    path.write_text("")
    check_table(path)


def test_a_pipe_in_the_place_of_a_page_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "index.html")
    with pytest.raises(InputError, match="cannot be replaced"):
        refuse_foreign(tmp_path / "index.html", PAGE, "--out")
