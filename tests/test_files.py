from __future__ import annotations

import os

import pytest

from stillroom.files import write_atomically, write_text


def test_a_write_that_fails_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    write_text(path, "old")

    def full_disk(aside):
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, full_disk)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "deep" / "file"
    write_text(path, "old")

    def write(aside):
        aside.write_text("new")
        assert path.read_text() == "old"

    write_atomically(path, write)
    assert path.read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX matter")
def test_private_writers_do_not_make_private_files(tmp_path):
    plain, path = tmp_path / "plain", tmp_path / "file"
    plain.touch()

    def write_privately(aside):
        aside.write_text("x")
        aside.chmod(0o600)

    write_atomically(path, write_privately)
    assert path.stat().st_mode == plain.stat().st_mode
