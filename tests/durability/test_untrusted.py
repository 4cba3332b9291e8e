"""A run folder from somebody else: its files are read, and nothing in them is run."""

from __future__ import annotations

import pickle
import shutil

import pytest
import torch

from stillroom import evaluate
from stillroom.errors import InputError
from tests.durability.whole import differences, files
from tests.engine.test_checkpoint import Payload


@pytest.fixture
def folder(undisturbed, tmp_path):
    """A finished run with its bank."""
    shutil.copytree(undisturbed["logits"].folder, tmp_path / "runs")
    return tmp_path / "runs"


def poison_yaml(path, target):
    path.write_text(f"!!python/object/apply:os.system ['touch {target}']")


def poison_value(path, target):
    path.write_text(path.read_text() + f"\nextra: !!python/object/apply:os.system ['touch {target}']\n")


def poison_pickle(path, target):
    path.write_bytes(pickle.dumps(Payload(target)))


def poison_torch(path, target):
    torch.save({"weight": torch.zeros(2), "x": Payload(target)}, path)


CASES = [
    ("config.yaml", poison_yaml),
    ("config.yaml", poison_value),
    ("config.yaml", poison_pickle),
    ("inputs.json", poison_yaml),
    ("inputs.json", poison_pickle),
    ("student.safetensors", poison_pickle),
    ("student.safetensors", poison_torch),
]


@pytest.mark.parametrize(("name", "poison"), CASES)
def test_code_in_a_finished_run_is_refused_and_not_run(lives, folder, tmp_path, tiny_data, name, poison):
    target = tmp_path / "executed"
    poison(folder / "run" / name, target)
    end = lives.live("distil", folder, "logits")
    assert end.error.startswith(("InputError: ", "UnreadableError: "))
    assert name in end.error
    with pytest.raises(InputError, match=name):
        evaluate(model=str(folder / "run"), data=tiny_data, accelerator="cpu", trust=True)
    assert not target.exists()


@pytest.mark.parametrize("poison", [poison_pickle, poison_torch])
@pytest.mark.parametrize("name", ["last.pt", "best.safetensors"])
def test_code_in_a_checkpoint_is_refused_and_not_run(lives, folder, tmp_path, name, poison):
    target = tmp_path / "executed"
    (folder / "run" / "summary.json").unlink()
    poison(folder / "run" / "checkpoint" / name, target)
    end = lives.live("distil", folder, "logits")
    assert end.error.startswith(("InputError: ", "UnreadableError: "))
    assert name in end.error
    assert not target.exists()


@pytest.mark.parametrize("poison", [poison_pickle, poison_torch])
def test_code_in_the_bank_is_not_run_and_its_logits_are_computed_again(lives, undisturbed, folder, tmp_path, poison):
    target = tmp_path / "executed"
    shutil.rmtree(folder / "run")
    for block in (folder / "bank").rglob("*.safetensors"):
        poison(block, target)
    assert lives.live("distil", folder, "logits").error == ""
    wanted = undisturbed["logits"].files["run/student.safetensors"]["tensors"]
    assert differences(files(folder)["run/student.safetensors"]["tensors"], wanted) == []
    assert not target.exists()


@pytest.mark.parametrize("content", ["", "[1, 2]", "7", "{" * 5000, "[" * 100_000])
@pytest.mark.parametrize("name", ["config.yaml", "inputs.json"])
def test_a_record_that_holds_something_else_is_named(lives, folder, name, content):
    (folder / "run" / name).write_text(content)
    end = lives.live("distil", folder, "logits")
    assert end.error.startswith(("InputError: ", "UnreadableError: "))
    assert f"{name} cannot be read" in end.error
