"""ResNet34 to ResNet18 at 224 pixels on a generated set: killed and continued, in one process, two, and on Ray.

Every run that was killed twice must end with the same weights, bit for bit, as the run that was not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from safetensors.torch import load_file

from benchmarks.harness import print_header, print_table

POLL_SECONDS = 0.25
TIMES = ("seconds", "images_per_second", "bank_seconds")


@dataclass
class Outcome:
    """A run: its seconds, kills, peak memory of all its processes, and what it left."""

    name: str
    seconds: float
    kills: int
    peak_bytes: int
    run: Path

    def same_as(self, other: Outcome) -> bool:
        """Whether weights and metrics agree bit for bit, measured times apart."""
        mine, theirs = (load_file(one.run / "student.safetensors") for one in (self, other))
        weights = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        return weights and rows(self.run) == rows(other.run)


def rows(run: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks imagenet_scale", description=__doc__)
    parser.add_argument("--data", required=True, help="folder of the set, as `python -m benchmarks photos` makes it")
    parser.add_argument("--image_size", type=int, default=224)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--per_class", type=int, default=20, help="training images of each class")
    parser.add_argument("--only", nargs="*", default=["one", "two", "ray"], choices=["one", "two", "ray"])
    options = parser.parse_args(arguments)
    work = Path(tempfile.mkdtemp(prefix="imagenet-scale-"))
    try:
        measure(options, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def measure(options: argparse.Namespace, work: Path) -> None:
    from torchvision.models import resnet34

    torch.manual_seed(0)
    torch.save(resnet34(num_classes=classes_in(Path(options.data))).state_dict(), work / "teacher.pt")
    draw = random.Random(0)
    outcomes, lines = [], []
    for name, processes, launcher in (("one", 1, ""), ("two", 2, "torchrun"), ("ray", 2, "ray")):
        if name not in options.only:
            continue
        whole = None if launcher == "ray" else train(options, work, f"{name}", processes, launcher, kills=0, draw=draw)
        killed = train(options, work, f"{name}-killed", processes, launcher, kills=0 if whole is None else 2, draw=draw)
        reference = whole or next((one for one in outcomes if one.name == "two"), None)
        outcomes += [one for one in (whole, killed) if one is not None]
        if reference is not None:
            same = "bit-identical" if killed.same_as(reference) else "DIFFERENT"
            lines.append(f"{killed.name} against {reference.name}: {same}")
    print_header("ResNet34 to ResNet18 at ImageNet's size, killed and continued")
    print_table(
        ["run", "seconds", "kills", "peak memory of all its processes, GB"],
        [[o.name, f"{o.seconds:.0f}", o.kills, f"{o.peak_bytes / 1e9:.2f}"] for o in outcomes],
    )
    print("\n" + "\n".join([*lines, f"last epoch: {rows(outcomes[0].run)[-1]}"]))


def classes_in(data: Path) -> int:
    return sum(1 for folder in (data / "train").iterdir() if folder.is_dir())


def train(
    options: argparse.Namespace,
    work: Path,
    name: str,
    processes: int,
    launcher: str,
    *,
    kills: int,
    draw: random.Random,
) -> Outcome:
    """Run `stillroom distill` to its end; kill it so often, and start it again with another number of workers."""
    run, begin, peak, done = work / "runs" / name, time.monotonic(), 0, 0
    while True:
        command = command_of(options, work, name, processes, launcher, workers=1 + done % 2)
        with (work / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, env=environment(processes)
            )
        wanted = done + 1 if done < kills else None
        saved, seen = checkpoint_time(run), 0
        due = draw.randint(2, 4)  # checkpoints to wait for, and then a random part of the time to the next one
        while process.poll() is None:
            peak = max(peak, memory_of(process.pid))
            if wanted is not None and checkpoint_time(run) != saved:
                saved, seen = checkpoint_time(run), seen + 1
                if seen == due:
                    time.sleep(draw.random() * 10)
                    kill_all(process.pid)
            time.sleep(POLL_SECONDS)
        if process.returncode == 0:
            return Outcome(name, time.monotonic() - begin, done, peak, run)
        if done == kills:
            raise RuntimeError((work / f"{name}.log").read_text()[-3000:])
        done += 1
        time.sleep(6)  # the workers of a killed process end by themselves within five seconds


def command_of(
    options: argparse.Namespace, work: Path, name: str, processes: int, launcher: str, *, workers: int
) -> list[str]:
    stillroom = str(Path(sys.executable).with_name("stillroom"))
    words = [
        "distill", "--teacher", "torchvision:resnet34", "--teacher_checkpoint", str(work / "teacher.pt"),
        "--student", "torchvision:resnet18", "--method", "ldrld", "--data", options.data, "--source", "files",
        "--image_size", str(options.image_size), "--crop_fraction", "0.875", "--min_scale", "0.08", "--pad", "0",
        "--flip", "true", "--per_class", str(options.per_class), "--batch_size", str(options.batch_size),
        "--epochs", "1", "--lr", "0.02", "--checkpoint_steps", "10", "--workers", str(workers),
        "--runs", str(work / "runs"), "--name", name,
    ]  # fmt: skip
    if launcher == "torchrun":
        torchrun = str(Path(sys.executable).with_name("torchrun"))
        return [torchrun, "--standalone", "--nproc-per-node", str(processes), "--no-python", stillroom, *words]
    extra = ["--launcher", "ray", "--processes", str(processes)] if launcher == "ray" else []
    return [stillroom, *words, *extra]


def environment(processes: int) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // processes))}


def checkpoint_time(run: Path) -> int:
    try:
        return (run / "checkpoint" / "last.pt").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_all(pid: int) -> None:
    """Kill a process and all below it at once; torchrun starts its processes in groups of their own."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)


def memory_of(pid: int) -> int:
    """Proportional set size of a process and all below it: shared pages count once."""
    total = 0
    try:
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:
        return 0
    return total
