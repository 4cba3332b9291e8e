from __future__ import annotations

import pytest

from stillroom.errors import InputError, InUse
from stillroom.run_removal import check_removal, folder_bytes, remove_run, users_of
from stillroom.runtime.folder_lock import locked
from tests.report.pages import made_run


@pytest.fixture
def place(tmp_path):
    """A teacher, its student, and a comparison with another student of it."""
    made_run(tmp_path, "teacher", ["x"], "ce")
    made_run(tmp_path, "student", ["x"], teacher=str(tmp_path / "teacher"))
    made_run(tmp_path / "c", "cell", ["x"], teacher=str(tmp_path / "teacher"))
    (tmp_path / "c" / "comparison.yaml").write_text("methods: {}\n")
    return tmp_path


def files(place):
    return sorted(str(path) for path in place.rglob("*"))


def test_what_is_no_run_is_refused(place):
    (place / "notes").mkdir()
    (place / "link").symlink_to(place / "student")
    for name, says in (("notes", "not a run"), ("c", "not a run"), ("nothing", "no such run"), ("link", "is a link")):
        with pytest.raises(InputError, match=says):
            check_removal([place / name], force=True)


def test_a_run_in_use_is_refused_also_with_force(place):
    with locked(place / "student" / ".lock"), pytest.raises(InUse, match="in use"):
        check_removal([place / "student"], force=True)
    check_removal([place / "student"], force=False)


def test_a_teacher_is_refused_unless_its_students_go_too(place):
    assert set(users_of(place / "teacher")) == {place / "student", place / "c" / "cell"}
    with pytest.raises(InputError, match=r"teacher or the beginning of .*cell, .*student, .*give --force"):
        check_removal([place / "teacher"], force=False)
    check_removal([place / "teacher"], force=True)
    check_removal([place / "teacher", place / "student", place / "c" / "cell"], force=False)
    check_removal([place / "c" / "cell"], force=False)


def test_a_run_that_another_one_began_with_or_learns_from_among_others_is_refused(place):
    made_run(place, "start", ["x"], "ce")
    made_run(place, "tuned", ["x"], teacher="timm:resnet18", student=str(place / "start"))
    made_run(place, "from-file", ["x"], student_checkpoint=str(place / "start" / "student.safetensors"))
    (place / "start" / "student.safetensors").touch()
    (place / "several.yaml").write_text(f"teachers:\n- teacher: {place / 'start'}\n")
    made_run(place, "from-several", ["x"], teacher=str(place / "several.yaml"))
    assert {run.name for run in users_of(place / "start")} == {"tuned", "from-file", "from-several"}


def test_a_file_of_the_users_is_not_removed_unasked(place):
    (place / "student" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"did not write \(notes.txt\)"):
        check_removal([place / "student"], force=False)
    check_removal([place / "student"], force=True)


def test_a_run_is_removed_and_nothing_else_also_where_a_link_leads_out(place):
    (place / "outside").mkdir()
    (place / "outside" / "kept").write_text("kept")
    (place / "student" / "tensorboard").symlink_to(place / "outside")
    assert folder_bytes(place / "student") > 0
    before = files(place)
    remove_run(place / "student")
    assert files(place) == [name for name in before if not name.startswith(str(place / "student"))]


def test_a_removal_that_is_killed_can_be_repeated(place, monkeypatch):
    (place / "student" / "checkpoint").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", _killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(place / "student")
    check_removal([place / "student"], force=False)
    remove_run(place / "student")
    assert not (place / "student").exists()


def _killed(_path):
    raise KeyboardInterrupt
