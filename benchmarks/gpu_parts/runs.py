"""Whole runs on a GPU."""

from __future__ import annotations

import copy
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import stillroom
from benchmarks.gpu_parts.common import Rows, networks, seconds_of, sized
from benchmarks.harness import compare
from stillroom.data import load_data
from stillroom.engine.run_folder import RunFolder

ROOT = Path(__file__).parents[2]


def distillation(device: torch.device) -> Rows:
    """The whole loop, the published pair, on Glyphs-100; twice, to see whether equal runs end equal."""
    data = load_data("glyphs100", per_class=sized(device, None, 2))
    teacher, student = networks(device)
    with tempfile.TemporaryDirectory() as runs:
        ends = []
        for name in ("one", "two"):
            taught, record = stillroom.distill(
                teacher=teacher, student=copy.deepcopy(student), data=data, method="ldrld",
                epochs=2, runs=runs, name=name, accelerator=device.type, progress=True,
            )  # fmt: skip
            ends.append([value.cpu() for value in taught.state_dict().values()])
        rows = record.epochs()
    yield "R32x4 -> R8x4, LDRLD, batch 64, training images/s", f"{rows[-1]['images_per_second']:,.0f}"
    same = all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    yield "two equal runs end with equal weights", "no" if not same else "yes"


def detectors(device: torch.device) -> Rows:
    """Steps of the demo's detectors, and short runs in float32 and bf16, with their AP on the device and on the CPU."""
    from benchmarks.detection_step import PLAIN, steps

    calls = steps(sized(device, 16, 2), device)
    timed = {name: lambda step=step: seconds_of(step, device) for name, step in calls.items()}
    found = compare(timed, rounds=sized(device, 20, 1), warmup=sized(device, 5, 1))
    for name in calls:
        told = f"{1e3 * found.median(name):.1f}, {found.ratio(name, PLAIN).text()}"
        yield f"detector, {name}: ms a step of 16 images of 128 px, times the plain loop", told
    data = f"scenes:{sized(device, 400, 12)}"
    for precision in ("32", "bf16"):
        with tempfile.TemporaryDirectory() as runs:
            shared = {"data": data, "batch_size": 16, "epochs": sized(device, 3, 1), "optimizer": "adamw", "lr": 2e-3,
                      "precision": precision, "runs": runs, "accelerator": device.type}  # fmt: skip
            stillroom.train(model="stillroom.models.demo_detectors:large_detector", name="teacher", **shared)
            _, record = stillroom.distill(
                teacher=f"{runs}/teacher", student="stillroom.models.demo_detectors:small_detector", name="student",
                method="0.1*ldrld(temperature=1) + 0.1*reviewkd(mid_channels=48, warmup=0)", **shared,
            )  # fmt: skip
            last = record.epochs()[-1]
            told = f"{last['images_per_second']:,.0f}, {record.summary()['last']['val_ap']:.2f}"
            yield f"detector, LDRLD + ReviewKD, {precision}: images/s, AP", told
            on_cpu = stillroom.evaluate(model=str(record.path), data=data, accelerator="cpu")
            yield f"detector, {precision}: AP on the CPU", f"{on_cpu.ap:.2f}"


def every_method(device: torch.device) -> Rows:
    """200 steps of every method on Glyphs-100, R32x4 -> R8x4: speed and memory beside KD, loss, accuracy."""
    from benchmarks import methods

    data = methods.images(sized(device, methods.PER_CLASS, 2))
    pair = sized(device, ("resnet32x4", "resnet8x4"), ("resnet20", "resnet8"))
    shared = {"data": data, "batch_size": methods.BATCH, "lr": 0.05, "schedule": "cosine", "accelerator": device.type}
    names = [
        "kd",
        *(methods.SHORT.get(name, name) for name in methods.PRESETS if name != "kd"),
        *methods.COMPOSED,
        "kd",
    ]
    with tempfile.TemporaryDirectory() as runs:
        epochs = sized(device, 8, 1)
        teacher, _ = stillroom.train(model=pair[0], epochs=epochs, runs=runs, name="teacher", **shared)
        for i, method in enumerate(names[: sized(device, None, 2)]):
            _, record = stillroom.distill(teacher=teacher, student=pair[1], method=method, epochs=methods.EPOCHS,
                                          runs=runs, name=str(i), **shared)  # fmt: skip
            rows = record.epochs()
            speed = statistics.median(row["images_per_second"] for row in rows) / methods.BATCH
            peak = record.summary()["peak_memory_bytes"] / 2**20
            losses = f"{rows[1]['loss']:.3g} -> {rows[-1]['loss']:.3g}"
            told = f"{speed:.1f}, {peak:.0f}, {losses}, {rows[-1]['val_top1']:.1f}"
            yield f"{method}: steps/s, peak MB, loss of epochs 2 -> 4, top-1 %", told


def comparison(device: torch.device) -> Rows:
    """The comparison on all of Tiny-ImageNet, as far as nine minutes reach; the next call goes on with it.

    Not among the parts of a plain call. The data have to be in carried/tiny-imagenet-200-32px.
    """
    config = ROOT / "benchmarks" / "comparisons" / "tiny-imagenet-200.yaml"
    command = [sys.executable, "-m", "stillroom.cli", "compare", "--config", str(config), "--accelerator", device.type]
    name = sized(device, "tiny-imagenet-200", "trial")
    small = {"first_classes": 5, "per_class": 8, "epochs": 2, "teacher_epochs": 2, "seeds": 1, "teachers": "resnet8",
             "students": "resnet8", "methods": "ce,ldrld(depth=2)", "reference": "ce"}  # fmt: skip
    settings = {"name": name, **sized(device, {}, small)}
    command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        status = process.wait(timeout=540)
    except subprocess.TimeoutExpired:
        process.terminate()  # it saves everything
        process.wait()
        status = 0
    if status:
        yield "comparison", f"FAILED with status {status}, see above"
    accuracies: dict[str, list[float]] = {}
    for path in sorted((ROOT / "runs" / name).glob("*/summary.json")):
        run = RunFolder(path.parent)
        accuracies.setdefault(run.config().get("method", "teacher"), []).append(run.summary()["last"]["val_top1"])
    for method, values in accuracies.items():
        yield f"Tiny-ImageNet, {method}: top-1 by seed", ", ".join(f"{value:.2f}" for value in values)
