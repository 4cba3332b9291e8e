"""Speed of student and teacher, in PyTorch and in onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.export.latency import Contender, Timing, machine_record, time_calls
from stillroom.export.onnx_graph import write_graph
from stillroom.export.onnx_session import INPUT, OUTPUT
from stillroom.export.quantise import write_int8
from stillroom.export.source_run import SourceRun, teacher_or_reason
from stillroom.models import logits_of
from stillroom.models.onnx_file import open_session

BATCHES = (1, 64)
CALIBRATION = 64  # images for a teacher's int8 form, of which only the speed matters
RUNTIMES = ("onnxruntime", "onnxruntime int8")


@dataclass(frozen=True)
class Speed:
    """Measured speed.

    Attributes:
        timings: a row for each model, runtime and batch size.
        missing: why the teacher is missing, or missing in some runtime; empty where it is not.
        machine: the record of the machine.
    """

    timings: tuple[Timing, ...]
    missing: str
    machine: dict[str, Any]


def measure_speed(
    source: SourceRun, graphs: Sequence[Path], aside: Path, threads: int, say: Callable[[str], None]
) -> Speed:
    """Measure student and teacher side by side on the CPU.

    Args:
        source: the run of student and teacher.
        graphs: the student's ONNX files: none, float, or float and int8.
        aside: a folder for the teacher's files.
        threads: of onnxruntime; PyTorch has its own setting.
        say: told the progress.
    """
    there = machine_record() | {
        "versions": {name: version(name) for name in ("torch", *(["onnxruntime"] if graphs else []))}
    }
    models, files = {"student": source.student}, {"student": list(graphs)}
    teacher, missing = teacher_or_reason(source)
    if teacher is not None:
        models["teacher"] = teacher
        files["teacher"], missing = _graphs_of(teacher, source, aside, len(graphs))
    if missing:
        say(f"speed: {missing}")
    say(f"measuring the speed of {' and '.join(models)} ...")
    timings: list[Timing] = []
    for batch in BATCHES:
        images = source.images(batch)
        calls: dict[Contender, Callable[[], object]] = {}
        for who, model in models.items():
            calls[who, "PyTorch"] = _torch_call(model, images)
            for runtime, file in zip(RUNTIMES, files[who], strict=False):
                calls[who, runtime] = _session_call(open_session(file, threads), images)
        timings += time_calls(calls, batch)
    return Speed(tuple(timings), missing, there)


def _graphs_of(teacher: nn.Module, source: SourceRun, aside: Path, count: int) -> tuple[list[Path], str]:
    """The teacher in the student's ONNX forms, as far as possible, and why some are missing."""
    graph, small = aside / "teacher.onnx", aside / "teacher-int8.onnx"
    made: list[Path] = []
    try:
        if count > 0:
            write_graph(teacher, source.images(2), graph, {})
            made.append(graph)
        if count > 1:
            write_int8(graph, small, source.training().epoch(0), CALIBRATION)
            made.append(small)
    except InputError as error:
        return made, f"the teacher is missing in some runtimes: {error}"
    return made, ""


def _torch_call(model: nn.Module, images: Tensor) -> Callable[[], object]:
    def call() -> object:
        with torch.inference_mode():
            return logits_of(model(images))

    return call


def _session_call(session: Any, images: Tensor) -> Callable[[], object]:
    feed = {INPUT: images.numpy()}
    return lambda: session.run([OUTPUT], feed)
