"""Two processes under torchrun do what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from stillroom.engine import together
from stillroom.engine.device import Machine
from stillroom.engine.loaders import val_batch
from stillroom.engine.runs import RunFolder
from stillroom.errors import InputError
from tests.engine import processes

ALIKE = ("per-sample", "batch", "stages", "views", "sharded", "banked", "labels")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def under_torchrun(folder, *scenarios, restarts=0):
    return subprocess.run(
        [*TORCHRUN, f"--max-restarts={restarts}", "-m", "tests.engine.processes", str(folder), *scenarios],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every scenario under two processes."""
    folder = tmp_path_factory.mktemp("together")
    done = under_torchrun(folder, *ALIKE, "stopped")
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def assert_same(one, other):
    for key, value in one.state_dict().items():
        assert torch.allclose(other[key].to(value.dtype), value, rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize("scenario", ALIKE)
def test_two_processes_end_with_the_weights_and_metrics_of_one(folder, tmp_path, scenario):
    student, record = processes.distil(tmp_path, scenario)
    two = RunFolder(folder / f"{scenario}-2")
    assert_same(student, load_file(two.student))
    assert two.summary()["processes"] == 2
    for row, other in zip(record.epochs(), two.epochs(), strict=True):
        for name in ("loss", "val_loss", "train_top1", "val_top1", "val_top5", "agreement"):
            wanted = None if row[name] is None else pytest.approx(row[name], rel=1e-3, abs=1e-4)
            assert other[name] == wanted, (name, row["epoch"])


def test_a_run_stopped_under_two_processes_goes_on_under_one(folder, tmp_path):
    whole, _ = processes.distil(tmp_path, "stopped")
    assert not RunFolder(folder / "stopped").finished
    said = []
    listener = processes.Silent()
    listener.say = said.append
    student, record = processes.distil(folder, "stopped", listener, name="stopped")
    assert any("2 processes" in line and "1" in line for line in said)
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]
    assert_same(whole, student.state_dict())


def test_a_process_that_dies_is_told_and_torchrun_goes_on_from_the_checkpoint(tmp_path):
    done = under_torchrun(tmp_path, "restarted", restarts=1)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the worker's own trouble" in done.stderr
    whole, _ = processes.distil(tmp_path, "restarted")
    two = RunFolder(tmp_path / "restarted-2")
    assert [row["epoch"] for row in two.epochs()] == [1, 2, 3]
    assert_same(whole, load_file(two.student))


def test_a_process_that_dies_fails_the_run(tmp_path):
    done = under_torchrun(tmp_path, "restarted")
    assert done.returncode != 0
    assert "the worker's own trouble" in done.stderr
    assert not RunFolder(tmp_path / "restarted-2").finished
    assert json.loads((tmp_path / "restarted-2" / "metrics.jsonl").read_text().splitlines()[0])["epoch"] == 1


@pytest.mark.parametrize(("pictures", "size"), [(5, 256), (1000, 100), (257, 10), (513, 64)])
def test_every_process_gets_the_same_number_of_validation_steps(pictures, size):
    for world_size in (2, 3, 4, 5):
        batch = val_batch(pictures, size, Machine(torch.device("cpu"), "32", 0, world_size))
        assert batch % world_size == 0
        assert pictures % batch == 0 or pictures % batch >= world_size


def test_fewer_validation_pictures_than_processes_are_refused():
    with pytest.raises(InputError, match="3 validation pictures for 4 processes"):
        val_batch(3, 64, Machine(torch.device("cpu"), "32", 0, 4))


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_batch_norm_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="OwnNorm"), together.batch_norm_over_all([nn.Sequential(OwnNorm(3))]):
        pass
