"""What is said of a path that leads nowhere."""

from __future__ import annotations

from stillroom.suggestions import suggest_path


def is_run(path):
    return (path / "config.yaml").is_file()


def test_what_lies_near_a_path_is_said(tmp_path):
    runs = tmp_path / "runs"
    for name in ("teacher", "student", ".hidden"):
        (runs / name).mkdir(parents=True)
        (runs / name / "config.yaml").touch()
    (runs / "notes").mkdir()
    assert suggest_path(runs / "teachr", is_run) == f"; did you mean {runs / 'teacher'}?"
    assert suggest_path(runs / "zzz", is_run) == f"; {runs} holds student, teacher"
    assert suggest_path(tmp_path / "rns" / "teacher", is_run) == f"; did you mean {runs / 'teacher'}?"
    assert suggest_path(tmp_path / "zzz" / "teacher", is_run) == f"; {tmp_path / 'zzz'} does not exist either"
    assert suggest_path(runs / "notes" / "x", is_run) == f"; {runs / 'notes'} holds none"
