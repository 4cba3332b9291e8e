from __future__ import annotations

import errno
import os
import socket

import pytest

from stillroom.errors import InputError
from stillroom.runtime.folder_lock import is_held, locked

fcntl = pytest.importorskip("fcntl")


def test_one_at_a_time_has_the_lock_and_the_others_are_told_who(tmp_path):
    path = tmp_path / ".lock"
    with locked(path) as alone:
        assert alone
        with (
            pytest.raises(InputError, match=f"{tmp_path} is in use: process {os.getpid()} on {socket.gethostname()}"),
            locked(path),
        ):
            pytest.fail("two have it")
    assert list(tmp_path.iterdir()) == []
    with locked(path) as alone:
        assert alone


def test_an_error_lets_go_of_it(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / ".lock"):
        raise KeyError
    with locked(tmp_path / ".lock") as alone:
        assert alone


def test_the_file_of_a_killed_process_is_no_lock(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on elsewhere")
    with locked(tmp_path / ".lock") as alone:
        assert alone


def test_a_lock_removed_while_it_is_taken_is_taken_again(tmp_path, monkeypatch):
    path, flock, calls = tmp_path / ".lock", fcntl.flock, []

    def late(lock, operation):  # its last owner removes it between our opening and our locking
        calls.append(lock)
        if len(calls) == 1:
            path.unlink()
        flock(lock, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(path) as alone:
        assert alone
        assert path.exists()
        with pytest.raises(InputError, match="in use"), locked(path):
            pytest.fail("two have it")


def test_a_disk_without_locks_does_without(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with locked(tmp_path / ".lock") as alone:
        assert not alone
    with locked(tmp_path / "no folder" / ".lock") as alone:
        assert not alone


def test_a_lock_that_is_a_link_leads_nowhere(tmp_path):
    """In a run folder from elsewhere it may point at any file of the user's."""
    mine = tmp_path / "mine"
    mine.write_text("dear")
    (tmp_path / ".lock").symlink_to(mine)
    with locked(tmp_path / ".lock") as alone:
        assert not alone
    assert mine.read_text() == "dear"


def test_a_lock_is_held_while_a_process_has_it_and_not_when_its_file_was_left(tmp_path):
    path = tmp_path / ".lock"
    assert not is_held(path)
    with locked(path):
        assert is_held(path)
    path.write_text("process 1 on a machine that is gone")
    assert not is_held(path)
    assert path.read_text().startswith("process 1")
