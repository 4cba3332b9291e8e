"""The code that made a run is named without running anything that the working directory configures."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from stillroom.engine.run_folder import environment
from stillroom.runtime.code_version import commit_of, source_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An unpacked archive whose git configuration names a program, as the working directory."""
    git = tmp_path / "archive" / ".git"
    for folder in ("objects", "refs/heads"):
        (git / folder).mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    (git / "config").write_text(f"[core]\n\tfsmonitor = touch {tmp_path / 'executed'}\n")
    (tmp_path / "archive" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "archive" / "inner")
    return tmp_path / "archive"


def test_no_program_of_the_working_directorys_repository_runs(archive):
    assert environment()["git"] == COMMIT[:12]
    assert not (archive.parent / "executed").exists()
    if shutil.which("git"):  # which would have run it
        subprocess.run(["git", "status"], check=False, capture_output=True)
        assert (archive.parent / "executed").exists()


def test_the_commit_is_found_where_git_keeps_it(archive):
    git = archive / ".git"
    (git / "HEAD").write_text(COMMIT)
    assert commit_of(archive) == COMMIT[:12]
    (git / "HEAD").write_text("ref: refs/heads/side/packed\n")
    assert commit_of(archive) is None
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/side/packed\n^{COMMIT}\n")
    assert commit_of(archive / "inner") == COMMIT[:12]
    tree = git / "worktrees" / "other"
    tree.mkdir(parents=True)
    (tree / "HEAD").write_text("ref: refs/heads/main")
    (tree / "commondir").write_text("../..\n")
    (archive.parent / "other").mkdir()
    (archive.parent / "other" / ".git").write_text(f"gitdir: {tree}\n")
    assert commit_of(archive.parent / "other") == COMMIT[:12]
    assert commit_of(archive.parent) is None


@pytest.mark.parametrize("head", ["ref: refs/../../../secret", "ref: /etc/passwd", "a secret", "ref: ", "\0"])
def test_nothing_but_a_commit_comes_out(archive, head):
    (archive.parent / "secret").write_text("a secret")
    (archive / ".git" / "HEAD").write_text(head)
    assert commit_of(archive) is None


def test_a_pipe_for_a_file_does_not_block(archive):
    (archive / ".git" / "HEAD").unlink()
    os.mkfifo(archive / ".git" / "HEAD")
    assert commit_of(archive) is None


def test_stillrooms_own_code_has_a_name():
    assert environment()["source"] == source_digest()
    assert len(source_digest()) == 12
