import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest

from stillroom.data.cache import cache_folder, write_cache
from stillroom.data.glyphs import glyphs100


def test_folder_is_the_argument_then_the_variable_then_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path) == tmp_path
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("STILLROOM_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("stillroom"))


def test_failure_leaves_the_old_file_and_nothing_aside(tmp_path):
    path = tmp_path / "new" / "file"
    assert write_cache(path, lambda file: file.write(b"old"))

    def fails(file):
        file.write(b"half")
        raise OSError("disk full")

    assert not write_cache(path, fails)
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_interrupt_leaves_nothing_aside(tmp_path):
    def stops(file):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_cache(tmp_path / "file", stops)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on files there")
def test_a_full_disk_leaves_no_half_file_and_the_set_is_there(tmp_path, caplog):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the system itself ends the write, as a full disk does
    try:
        train, _ = glyphs100(0, 1, 1, cache=tmp_path / "cache")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(train) == 100
    assert list((tmp_path / "cache").iterdir()) == []
    assert "not written" in caplog.text


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def _write_objects(path, target):
    with path.open("wb") as file:
        np.savez(file, train=np.array([Payload(target)], dtype=object), test=np.zeros(1))


def _write_array(path, target):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def _write_huge(path, target):
    """An array that claims eight terabytes."""
    import io
    import zipfile

    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (2**43,)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", stream.getvalue())


@pytest.mark.parametrize("foreign", [_write_objects, _write_array, _write_huge, lambda path, _: path.mkdir()])
def test_a_foreign_cache_never_hurts_and_is_never_run(tmp_path, foreign):
    expected = glyphs100(0, 1, 1, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").iterdir()
    path.unlink()
    foreign(path, tmp_path / "pwned")
    for one, other in zip(glyphs100(0, 1, 1, cache=tmp_path / "cache"), expected, strict=True):
        assert one.images.equal(other.images)
    assert not (tmp_path / "pwned").exists()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
