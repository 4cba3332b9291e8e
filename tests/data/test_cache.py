from pathlib import Path

import platformdirs
import pytest

from stillroom.data.cache import cache_folder, keep


def test_folder_is_the_argument_then_the_variable_then_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path) == tmp_path
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("STILLROOM_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("stillroom"))


def test_failure_leaves_the_old_file_and_nothing_aside(tmp_path):
    path = tmp_path / "new" / "file"
    assert keep(path, lambda file: file.write(b"old"))

    def fails(file):
        file.write(b"half")
        raise OSError("disk full")

    assert not keep(path, fails)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_interrupt_leaves_nothing_aside(tmp_path):
    def stops(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "file", stops)
    assert list(tmp_path.iterdir()) == []
