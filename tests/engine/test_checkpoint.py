from __future__ import annotations

import errno
import os
import pickle

import pytest
import torch

from stillroom.engine import checkpoint
from stillroom.errors import InputError


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (exec, (f"open({str(self.target)!r}, 'w').close()",))


def test_states_come_back_as_saved(tmp_path):
    state = {"weights": torch.randn(3), "rows": [{"a": 1.5, "b": None}], "step": 4}
    checkpoint.save_state(tmp_path / "last.pt", state)
    got = checkpoint.load_state(tmp_path / "last.pt")
    assert torch.equal(got.pop("weights"), state.pop("weights"))
    assert got == state
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_full_disk_is_explained_and_the_previous_state_stays(tmp_path, monkeypatch):
    path = tmp_path / "last.pt"
    checkpoint.save_state(path, {"step": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"No space left on device\): it needs 2 MB, .* are free there.*make room"):
        checkpoint.save_state(path, {"weights": torch.zeros(499_000)})
    assert checkpoint.load_state(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_an_error_of_the_device_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="CUDA error"):
        checkpoint.save_state(tmp_path / "last.pt", {})


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    path, target = tmp_path / "last.pt", tmp_path / "executed"
    torch.save({"x": Payload(target)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load_state(path)
    path.write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load_state(path)
    assert not target.exists()


def test_a_state_that_claims_many_times_its_file_is_refused(tmp_path):
    torch.save({"student": {"weight": torch.zeros(1).expand(1000, 1_000_000)}}, tmp_path / "last.pt")
    with pytest.raises(
        InputError, match=r"last\.pt cannot be read \(its tensors claim 4,000\.0 MB.*start this run again"
    ):
        checkpoint.load_state(tmp_path / "last.pt")
    os.mkfifo(tmp_path / "pipe.pt")
    with pytest.raises(InputError, match=r"pipe\.pt cannot be read \(it is not a regular file\)"):
        checkpoint.load_state(tmp_path / "pipe.pt")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.load_state(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(InputError, match=r"half\.pt cannot be read"):
        checkpoint.load_state(tmp_path / "half.pt")
    (tmp_path / "empty.pt").touch()
    with pytest.raises(InputError, match=r"empty\.pt cannot be read"):
        checkpoint.load_state(tmp_path / "empty.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list\.pt cannot be read \(it has no entries\)"):
        checkpoint.load_state(tmp_path / "list.pt")
