"""Comparisons as a whole, in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from safetensors.torch import load_file

from stillroom.cli import main
from stillroom.compare.cell_checks import check_cells
from stillroom.compare.grid import make_grid
from stillroom.compare.options import CompareOptions
from stillroom.compare.run_cell import train_cell
from stillroom.engine.run_folder import RunFolder
from stillroom.runtime.folder_lock import locked
from tests.conftest import colour_folder
from tests.durability.whole import differences, files

EPOCHS = 8
SETTINGS = [
    "--epochs", str(EPOCHS), "--batch_size", "8", "--accelerator", "cpu", "--precision", "32", "--page", "false",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """In all processes, so that their sums are taken in one order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=40, side=8)


def arguments(photos, runs, *more):
    return [
        "compare", "--teachers", "stillroom.models.demo_nets:medium", "--students", "stillroom.models.demo_nets:small",
        "--methods", "ce,kd", "--seeds", "2", "--data", str(photos), "--runs", str(runs), "--name", "c",
        "--jobs", "2", *SETTINGS, *more,
    ]  # fmt: skip


def begin(photos, runs, *more):
    command = [sys.executable, "-m", "stillroom.cli", *arguments(photos, runs, *more)]
    return subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def epochs_of_students(folder):
    return sum(len(path.read_text().splitlines()) for path in folder.glob("small-*/metrics.jsonl"))


def wait_until(what, seconds=240):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def workers_of(parent):
    """The processes below another, from the kernel's lists."""
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout.split()
    return [int(pid) for pid in found]


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def assert_equal_to_cells_that_nothing_disturbed(photos, tmp_path, folder, monkeypatch, *, epochs, seeds=1, **more):
    options = CompareOptions(
        teachers="stillroom.models.demo_nets:medium", students="stillroom.models.demo_nets:small",
        seeds=seeds, **{"methods": "kd", **more},
    )  # fmt: skip
    settings = {"epochs": epochs, "batch_size": 8, "accelerator": "cpu", "precision": "32", "data": str(photos)}
    monkeypatch.setenv("LOCAL_RANK", "0")
    grid = make_grid(options, {**settings, "runs": str(tmp_path / "whole"), "name": "c"})
    for cell in grid.cells:
        assert not train_cell(cell, tmp_path / "log.txt", 1, 0).problem
        one, other = (RunFolder(folder / cell.name) for folder in (folder, grid.folder))
        weights, wanted = load_file(one.student), load_file(other.student)
        assert all((weights[key] == wanted[key]).all() for key in wanted), cell.name
        assert not differences(one.epochs(), other.epochs())


@pytest.fixture(scope="module")
def compared(photos, tmp_path_factory):
    """A comparison of which first a worker, then all was killed, and which was then asked to go on."""
    runs = tmp_path_factory.mktemp("killed")
    process = begin(photos, runs)
    wait_until(lambda: epochs_of_students(runs / "c") >= 2)
    busy = workers_of(process.pid)
    for pid in busy:
        os.kill(pid, signal.SIGKILL)
    before = epochs_of_students(runs / "c")
    wait_until(lambda: epochs_of_students(runs / "c") > before + 3)
    orphans = workers_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    wait_until(lambda: not any(is_alive(pid) for pid in orphans))
    assert main(arguments(photos, runs)) == 0
    return runs / "c"


def test_after_two_kills_a_comparison_is_the_one_that_was_never_disturbed(compared, photos, tmp_path, monkeypatch):
    assert len([*compared.glob("*/config.yaml")]) == 5
    assert_equal_to_cells_that_nothing_disturbed(
        photos, tmp_path, compared, monkeypatch, epochs=EPOCHS, seeds=2, methods="ce,kd"
    )


def test_the_check_says_whose_batch_norms_lag_behind(photos, tmp_path):
    options = CompareOptions(
        teachers="stillroom.models.demo_nets:medium",
        students="stillroom.models.demo_nets:small,torchvision:mobilenet_v3_small",
        methods="ce,kd",
        seeds=1,
    )
    for momentum, lagging in ((None, ["mobilenet_v3_small"]), (0.1, [])):
        settings = {"data": str(photos), "runs": str(tmp_path), "batch_size": 8, "bn_momentum": momentum}
        grid = make_grid(options, settings)
        notes = check_cells(grid, [cell for cell in grid.cells if cell.command == "distill"])
        assert [note.split(": ")[1] for note in notes] == lagging
        assert all("average over some 100 steps" in note for note in notes)


def test_a_moved_comparison_runs_nothing_that_is_finished_and_of_a_new_seed_only_itself(
    compared, photos, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(photos)
    compared = shutil.copytree(compared, tmp_path / "moved" / "c")
    old = files(compared)
    assert main(arguments("./link/", "./moved/", "--seeds", "0,2", "--methods", "kd", "--checkpoint_every", "5")) == 0
    assert "±" in capsys.readouterr().out
    new = files(compared)
    assert "small-from-medium-kd-s2/student.safetensors" in new.keys() - old.keys()
    assert {path.partition("/")[0] for path in new.keys() - old.keys()} <= {"small-from-medium-kd-s2", "logs", "bank"}
    kept = [path for path in old if path.startswith("small-") and "teacher" not in path]
    assert not differences({path: old[path] for path in kept}, {path: new[path] for path in kept})
    assert yaml.safe_load((compared / "comparison.yaml").read_text())["seeds"] == [0, 1, 2]


def test_one_failed_cell_costs_no_other(photos, tmp_path, capsys):
    more = ["--methods", "kd,1e30*kd", "--seeds", "1", "--epochs", "2", "--lr", "10"]
    assert main(arguments(photos, tmp_path, *more)) == 1
    out = capsys.readouterr()
    assert "1e30" in out.err
    assert "Diverged" in out.err
    assert RunFolder(tmp_path / "c" / "small-from-medium-kd-s0").finished


def test_a_mistake_is_said_before_anything_is_trained_or_written(photos, tmp_path, capsys):
    assert main(arguments(photos, tmp_path, "--methods", "kd,ldrld(depth=9)")) == 2
    assert "small-from-medium-ldrld" in (said := capsys.readouterr().err)
    assert "depth=9" in said
    assert not (tmp_path / "c").exists()


def test_a_refused_call_leaves_the_record_as_it_was(compared, photos, monkeypatch, capsys):
    before = (compared / "comparison.yaml").read_bytes()
    with locked(compared / ".lock"):
        assert main(arguments(photos, compared.parent, "--methods", "dkd")) == 2
    assert "is in use" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(arguments(photos, compared.parent, "--methods", "dkd", "--ray", "local")) == 2
    assert "Ray is not installed" in capsys.readouterr().err
    assert (compared / "comparison.yaml").read_bytes() == before


def test_two_signals_to_all_processes_save_everything(photos, tmp_path):
    """As a scheduler tells every process of a job, and `timeout` a process twice."""
    process = begin(photos, tmp_path, "--epochs", "200", "--methods", "ce,kd")
    wait_until(lambda: epochs_of_students(tmp_path / "c") >= 1)
    running = list((tmp_path / "c").glob("small-*/metrics.jsonl"))
    begun = time.time()
    for _ in range(2):
        os.killpg(process.pid, signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert "everything is saved" in said
    assert "leaked" not in said
    for path in running:
        json.loads(path.read_text().splitlines()[-1])
        assert (path.parent / "checkpoint" / "last.pt").stat().st_mtime > begun - 1
    for path in (tmp_path / "c").glob("*/metrics.jsonl"):
        json.loads(path.read_text().splitlines()[-1])
