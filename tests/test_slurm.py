"""The batch script of docs/scale.md, with stand-ins for SLURM's commands that make two machines of this one."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from stillroom.engine.run_folder import RunFolder
from tests.conftest import colour_folder

SRUN = """#!/bin/bash
trap 'kill -TERM $one $two; wait $one $two' TERM
"$@" & one=$!
"$@" & two=$!
wait $one; status=$?
wait $two && exit $status
"""
SCONTROL = """#!/bin/bash
case "$1 $2" in
    "show hostnames") echo localhost; echo localhost;;
    requeue*) echo "$2" > requeued;;
    *) exit 1;;
esac
"""


def batch_script():
    page = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```bash\n(#!/bin/bash\n#SBATCH .*?)```", page, re.DOTALL)
    return script


def free_job():
    """The number of a job whose port nobody has."""
    for job in range(os.getpid() % 10_000, 20_000):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", 20_000 + job % 10_000))
            return job
    raise AssertionError("no port is free")


def begin(folder, epochs):
    slurm = {
        "SLURM_JOB_ID": str(free_job()), "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "machine[1-2]",
        "SLURM_GPUS_PER_NODE": "1", "OMP_NUM_THREADS": "1",
        "PATH": os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
    }  # fmt: skip
    words = [
        "train", "--model", "stillroom.models.demo_nets:small", "--data", "photos", "--epochs", str(epochs), "--name",
        "run", "--batch_size", "8", "--accelerator", "cpu", "--precision", "32",
    ]  # fmt: skip
    process = subprocess.Popen(
        ["bash", "slurm.sh", *words], cwd=folder, env=os.environ | slurm, stderr=subprocess.PIPE, text=True
    )
    return process, slurm["SLURM_JOB_ID"]


def test_the_batch_script_saves_before_the_time_limit_and_goes_on_when_it_is_queued_again(tmp_path):
    for name in ("photos", "bin"):
        (tmp_path / name).mkdir()
    colour_folder(tmp_path / "photos", count=20, side=8)
    (tmp_path / "slurm.sh").write_text(batch_script())
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(content)
        (tmp_path / "bin" / name).chmod(0o755)
    run, epochs = RunFolder(tmp_path / "runs" / "run"), 12

    process, job = begin(tmp_path, epochs)
    end = time.monotonic() + 240
    while not (run.last.exists() and run.epochs()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGUSR1)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert "everything is saved in runs/run" in said
    assert (tmp_path / "requeued").read_text().split() == [job]
    assert not run.finished

    process, _ = begin(tmp_path, epochs)
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 0, said
    assert "continuing after step" in said
    assert [row["epoch"] for row in run.epochs()] == list(range(1, epochs + 1))
    assert run.summary()["processes"] == 2
