from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Barrier, Thread

import pytest

from stillroom.files import is_temporary, remove_temporary_files, shown, write_atomically, write_text


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


def test_what_a_killed_writer_leaves_is_known_by_its_name_and_removed_when_it_is_old(tmp_path):
    asides = []
    for _ in range(2):
        write_atomically(tmp_path / "file", asides.append)
    others = [tmp_path / name for name in ("file", ".file", "file.tmp", ".file.tmp", "file.0123abcd.tmp")]
    for path in (*asides, *others):
        path.write_text("half")
        assert is_temporary(path.name) == (path in asides)
    for path in (asides[0], *others):
        os.utime(path, (0, 0))
    remove_temporary_files(tmp_path.iterdir())
    assert sorted(tmp_path.iterdir()) == sorted([asides[1], *others])
    remove_temporary_files(tmp_path.iterdir(), older_than=None)
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.skipif(os.name != "posix", reason="modes are a POSIX matter")
def test_private_writers_do_not_make_private_files(tmp_path):
    plain, path = tmp_path / "plain", tmp_path / "file"
    plain.touch()

    def write_privately(aside):
        aside.write_text("x")
        aside.chmod(0o600)

    write_atomically(path, write_privately)
    assert path.stat().st_mode == plain.stat().st_mode


def test_threads_that_write_one_file_do_not_take_each_others(tmp_path):
    path, both, failures = tmp_path / "file", Barrier(2), []

    def write(letter):
        def fill(aside):
            aside.write_text(letter * 10)
            both.wait(10)  # both have written and neither has put its file in place

        try:
            write_atomically(path, fill)
        except OSError as error:
            failures.append(error)

    threads = [Thread(target=write, args=(letter,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert path.read_text() in ("a" * 10, "b" * 10)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX brings folders to the disk")
def test_a_file_system_that_cannot_sync_folders_is_no_failure(tmp_path, monkeypatch):
    sync = os.fsync

    def only_files(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\nb", r"a\nb"), ("Ünï 7.png", "Ünï 7.png"), ("\udce9", r"\udce9"), ("x" * 300, "x" * 100 + "…" + "x" * 100)],
)
def test_names_are_shown_on_one_line(name, expected):
    assert shown(name) == expected


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux says which file a descriptor is")
def test_a_new_file_and_the_names_that_lead_to_it_are_brought_to_the_disk(tmp_path, monkeypatch):
    import fcntl

    synced = []

    def fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        # Windows syncs only what is open for writing.
        assert path.is_dir() or fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_RDWR
        synced.append("aside" if is_temporary(path.name) else path.name)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "runs" / "run" / "config.yaml", "a: 1\n")
    assert sorted(synced[:2]) == sorted([tmp_path.name, "runs"])
    assert synced[2:] == ["aside", "run"]
