"""Three processes under torchrun do what one does, also where they do not divide the batch, or outnumber its images."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from stillroom.engine.predictions import predictions_of, teacher_predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import Stopped
from tests.engine import processes

ALIKE = ("per-sample", "batch", "stages", "views", "banked", "partial", "partial-batch", "labels", "mixed")
MOVED = ("moved-batch", "moved-banked", "moved-dropout")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def begin_torchrun(folder, *scenarios, processes=3, restarts=0):
    started = [*TORCHRUN, f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return subprocess.Popen(
        [*started, "-m", "tests.engine.processes", str(folder), *scenarios],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every scenario under three processes, run after run in one script; some of them were begun by one process."""
    folder = tmp_path_factory.mktemp("together")
    for scenario in MOVED:
        with pytest.raises(Stopped):
            processes.distil(folder, scenario, act=processes.ask, at=3, name=scenario)
    process = begin_torchrun(folder, *ALIKE[:3], "refused", *ALIKE[3:], *MOVED, "stopped", "told")
    while process.poll() is None and not (folder / "told" / "metrics.jsonl").exists():
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # as a scheduler does; torchrun tells its processes once more
    _, said = process.communicate(timeout=300)
    assert "told" in said, said[-3000:]
    (folder / "said.txt").write_text(said)
    return folder


def assert_same(one, other):
    for key, value in one.state_dict().items():
        coarse = value.dtype == torch.bfloat16
        near = {"rtol": 2**-6, "atol": 2**-8} if coarse else {"rtol": 1e-3, "atol": 1e-4}
        assert torch.allclose(other[key].to(value.dtype), value, **near), key


def assert_same_rows(record, other):
    for row, found in zip(record.epochs(), other.epochs(), strict=True):
        for name in ("loss", "terms", "val_loss", "train_top1", "val_top1", "val_top5", "agreement"):
            wanted = None if row[name] is None else pytest.approx(row[name], rel=1e-3, abs=1e-4)
            assert found[name] == wanted, (name, row["epoch"])


def assert_same_predictions(one, other):
    assert torch.equal(other.labels, one.labels)
    assert torch.equal(other.ids, one.ids)
    assert torch.allclose(other.logits, one.logits, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("scenario", ALIKE)
def test_three_processes_end_with_the_weights_and_metrics_of_one(folder, tmp_path, scenario):
    student, record = processes.distil(tmp_path, scenario)
    three = RunFolder(folder / f"{scenario}-3")
    assert_same(student, load_file(three.student))
    assert three.summary()["processes"] == 3
    if scenario != "mixed":
        assert_same_rows(record, three)
        assert_same_predictions(predictions_of(record), predictions_of(three))
        if scenario != "labels":
            assert_same_predictions(teacher_predictions_of(record), teacher_predictions_of(three))


def test_one_of_three_processes_logs(folder):
    pytest.importorskip("tensorboard")
    assert len(list((folder / "per-sample-3" / "tensorboard").iterdir())) == 1


def test_a_run_stopped_under_three_processes_goes_on_under_one(folder, tmp_path):
    whole, _ = processes.distil(tmp_path, "stopped")
    assert not RunFolder(folder / "stopped").finished
    said = []
    listener = processes.Silent()
    listener.say = said.append
    student, record = processes.distil(folder, "stopped", listener, name="stopped")
    assert any("3 processes" in line and "1" in line for line in said)
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]
    assert_same(whole, student.state_dict())


def test_a_signal_to_every_process_that_torchrun_repeats_saves_and_stops(folder):
    said = (folder / "said.txt").read_text()
    assert len(re.findall(r"Stopped: stopped in epoch \d+ after step \d+; everything is saved", said)) == 3
    record = RunFolder(folder / "told")
    progress = torch.load(record.last, weights_only=True)["progress"]
    assert (progress["epoch"], progress["step"]) > (len(record.epochs()), 0)
    assert f"stopped in epoch {progress['epoch']} after step {progress['step']};" in said


@pytest.mark.parametrize("scenario", MOVED)
def test_a_run_begun_by_one_process_goes_on_under_three_and_ends_under_one(folder, tmp_path, scenario):
    state = torch.load(RunFolder(folder / scenario).last, weights_only=True)
    assert len(state["random"]) == 3
    assert (state["progress"]["epoch"] - 1) * processes.STEPS + state["progress"]["step"] == 3 + 5
    student, record = processes.distil(folder, scenario, name=scenario)
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]
    if scenario != "moved-dropout":
        whole, other = processes.distil(tmp_path, scenario)
        assert_same(whole, student.state_dict())
        assert_same_rows(other, record)


def test_a_process_that_dies_is_told_and_all_go_on_from_the_checkpoint_with_their_parts_of_the_teacher(tmp_path):
    process = begin_torchrun(tmp_path, "restarted", processes=2, restarts=1)
    _, said = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "the worker's own trouble" in said
    # Each life dies in its seventh step: the first one in the second epoch, that after the restart in the third.
    record = RunFolder(tmp_path / "restarted")
    assert [row["epoch"] for row in record.epochs()] == [1, 2]
    assert not record.finished
    student, record = processes.distil(tmp_path, "restarted", name="restarted")
    whole, other = processes.distil(tmp_path, "restarted", name="whole", shard_teacher=False)
    assert_same(whole, student.state_dict())
    assert_same_rows(other, record)
