from __future__ import annotations

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


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("PytorchStreamWriter failed writing file")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match="MB are free"):
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


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        checkpoint.load_state(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(InputError, match=r"half\.pt cannot be read"):
        checkpoint.load_state(tmp_path / "half.pt")


def test_random_numbers_go_on_where_they_stopped():
    torch.manual_seed(1)
    state = checkpoint.random_state()
    first = torch.rand(4)
    checkpoint.restore_random_state(state)
    assert torch.equal(torch.rand(4), first)
