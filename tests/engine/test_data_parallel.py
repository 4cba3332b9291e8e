"""Two and four processes against one: gradients, batch norm, accumulation, compiled students, a kill in mid-epoch."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from stillroom.engine.data_parallel import average_streams
from stillroom.engine.run_folder import RunFolder
from stillroom.optim import DOT
from tests.engine import processes
from tests.runtime.test_distributed import assert_same, assert_same_rows, begin_torchrun

COMPILER = shutil.which("g++") is not None or shutil.which("clang++") is not None
COMPILED = ("compiled", "compiled-own-norms") if COMPILER else ()
STREAMS = ("streams-dot", "streams-deepkd")
ACCUMULATED = (
    "accumulated",
    "accumulated-bf16",
    "accumulated-partial",
    "accumulated-banked",
    "accumulated-mixed-images",
    "accumulated-balanced-banked",
)


def run_all(folder, count, *scenarios, restarts=0):
    process = begin_torchrun(folder, *scenarios, processes=count, restarts=restarts)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    scenarios = (
        "per-sample",
        "small",
        *ACCUMULATED,
        *STREAMS,
        "own-norms",
        *COMPILED,
        "learning",
        "own-norms-stopped",
        "early-stopped",
    )
    (folder / "said.txt").write_text(run_all(folder, 2, *scenarios, "own-norms-killed", restarts=1))
    return folder


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    run_all(folder, 4, "per-sample", "batch", "small", "few", "accumulated")
    return folder


@pytest.mark.parametrize("scenario", ["per-sample", "small", *ACCUMULATED, *STREAMS])
def test_two_processes_end_as_one(two, tmp_path, scenario):
    student, record = processes.distil(tmp_path, scenario)
    other = RunFolder(two / f"{scenario}-2")
    if scenario == "accumulated-bf16":
        for key, value in load_file(other.student).items():
            assert torch.allclose(value, student.state_dict()[key], rtol=2**-5, atol=2**-6), key
        return
    assert_same(student, load_file(other.student))
    assert_same_rows(record, other)


def test_two_processes_stop_early_in_the_epoch_in_which_one_does(two, tmp_path):
    student, record = processes.distil(tmp_path, "early-stopped")
    other = RunFolder(two / "early-stopped-2")
    assert other.summary()["early_stop"] == record.summary()["early_stop"]
    assert record.summary()["early_stop"]["stopped"]
    assert_same(student, load_file(other.student))
    assert_same_rows(record, other)


@pytest.mark.parametrize("scenario", ["per-sample", "batch", "small", "few", "accumulated"])
def test_four_processes_end_as_one(four, tmp_path, scenario):
    student, record = processes.distil(tmp_path, scenario)
    other = RunFolder(four / f"{scenario}-4")
    assert_same(student, load_file(other.student))
    assert_same_rows(record, other)


def test_a_process_killed_in_mid_epoch_costs_no_bit_although_each_has_its_own_batch_norm_statistics(two):
    whole, cut = (load_file(RunFolder(two / f"{name}-2").student) for name in ("own-norms", "own-norms-killed"))
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    # Four steps an epoch, and a checkpoint after each of them by the clock; the process was killed in the seventh step.
    assert (two / "places.txt").read_text().split() == ["0", "6"]


def test_batch_norm_of_each_process_sees_its_own_images_only(two, tmp_path):
    whole, _ = processes.distil(tmp_path, "own-norms")
    found = load_file(RunFolder(two / "own-norms-2").student)
    assert not all(torch.allclose(value, found[key], rtol=1e-3, atol=1e-4) for key, value in whole.state_dict().items())


def test_a_run_stopped_by_two_processes_with_statistics_of_their_own_continues_in_one(two):
    path = RunFolder(two / "own-norms-stopped").last
    first, second = torch.load(path, weights_only=True)["norm_statistics"]
    assert not torch.equal(first, second)
    assert not RunFolder(two / "own-norms-stopped").finished
    _, record = processes.distil(two, "own-norms-stopped", name="own-norms-stopped")
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]


def test_two_processes_learn_in_each_step_what_one_does(two, tmp_path):
    _, record = processes.distil(tmp_path, "learning", processes.StepLosses(tmp_path / "losses.txt"))
    one, both = ([float(line) for line in (folder / "losses.txt").read_text().split()] for folder in (tmp_path, two))
    assert len(one) == 10 * processes.STEPS
    assert both == pytest.approx(one, rel=1e-4)
    rows = RunFolder(two / "learning-2").epochs()
    assert rows[-1]["train_top1"] == record.epochs()[-1]["train_top1"] > 45  # of four classes


@pytest.mark.skipif(not COMPILER, reason="no C++ compiler here")
@pytest.mark.parametrize("scenario", COMPILED)
def test_a_compiled_student_trains_under_two_processes_as_a_plain_one(two, tmp_path, scenario):
    if scenario == "compiled":
        _, plain = processes.distil(tmp_path, scenario, compile=False)
    else:
        plain = RunFolder(two / "own-norms-2")
    assert_same_rows(plain, RunFolder(two / f"{scenario}-2"))


def test_nothing_is_warned_of(two):
    assert "Warning" not in (two / "said.txt").read_text()


class HalfOfThem:
    """A group of two processes, of which the other one has no gradients."""

    @staticmethod
    def average(value):
        return value / 2


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_stream_is_averaged_in_the_number_format_of_its_parameters(layout):
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float32)
    weights = [torch.nn.Parameter(torch.ones(2, 3, 2, 2, dtype=dtype).to(memory_format=layout)) for dtype in dtypes]
    optimizer = DOT(weights, lr=0.1)
    numbers = torch.arange(24.0).view(2, 3, 2, 2)
    optimizer.accumulate(task=sum((w * numbers.to(w.dtype)).sum().double() for w in weights[:3]))
    average_streams(optimizer, HalfOfThem())
    for weight in weights[:3]:
        found = optimizer.gradients["task"][weight]
        assert found.dtype == weight.dtype
        assert torch.equal(found.double(), numbers.double() / 2)
    assert weights[3] not in optimizer.gradients["task"]
    assert not optimizer.gradients["distillation"]
