"""Export of a detector: weights, ONNX and int8 graphs that are checked on images, and their speed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.boxes import Detections, ImageBoxes
from stillroom.errors import InputError
from stillroom.export.detector_graph import (
    DetectionParity,
    WholeDetector,
    check_detections,
    session_detections,
    torch_detections,
    write_detector_graph,
)
from stillroom.export.latency import Contender, Timing, machine_record, time_calls
from stillroom.export.onnx_session import INPUT, require_onnx
from stillroom.export.quantise import quantise_graph
from stillroom.export.speed import RUNTIMES
from stillroom.files import write_text
from stillroom.models import save_weights
from stillroom.models.onnx_file import open_session
from stillroom.tasks.average_precision import AveragePrecision, average_precision

CALIBRATION = 100  # images for the ranges of activations; each is large and has many regions
QUANTISED = ("Conv", "Gemm", "MatMul")  # the arithmetic of boxes stays float


@dataclass(frozen=True)
class DetectorExport:
    """The measurements of an exported detector; its files lie in the folder of the export.

    Attributes:
        parity: how close ``model.onnx`` is to PyTorch; None without it.
        scores: "PyTorch", "onnxruntime" and "onnxruntime int8" -> average precision on the given images; empty where
            no objects were given.
        calibrated: images that the int8 graph was calibrated on; 0 without it.
        missing: why there is no int8 graph although it was wanted; empty otherwise.
        timings: speed with one image at a time; empty where it was not measured.
    """

    parity: DetectionParity | None
    scores: dict[str, AveragePrecision]
    calibrated: int
    missing: str
    timings: tuple[Timing, ...]


def export_detector(
    model: nn.Module,
    folder: Path,
    images: Sequence[Tensor],
    *,
    image_size: int,
    max_size: int,
    classes: Sequence[str],
    facts: Mapping[str, Any],
    objects: Sequence[ImageBoxes] | None = None,
    calibration: Sequence[Tensor] = (),
    teacher: nn.Module | None = None,
    onnx: bool = True,
    int8: bool = True,
    latency: bool = True,
    say: Callable[[str], None] = print,
) -> DetectorExport:
    """Write a detector as files to deploy: weights, ONNX graphs in float and int8, and their speed.

    The files are ``model.safetensors``, ``model.onnx``, ``model-int8.onnx`` and ``latency.json``. The graphs take
    ``images``, one image (1, 3, H, W) of any size in [0, 1], and return ``boxes`` (n, 4) in its pixels, ``scores``
    (n,) in descending order and ``labels`` (n,), places in ``classes``: normalisation and resizing are inside.

    Args:
        model: a two-stage detector; it is not changed.
        folder: where the files go; those of earlier exports in it are overwritten.
        images: float32 (3, H, W) in [0, 1], of different content; the graphs are compared with PyTorch on all of them.
        image_size: the shorter side that the detector resizes images to.
        max_size: the longer side at most.
        classes: names without background.
        facts: plain values that are stored in the weights and the graphs.
        objects: the annotated objects of ``images``, for the average precision of each form.
        calibration: training images as ``images``, for the ranges of the int8 graph; by default ``images``.
        teacher: its speed is measured beside the model's.
        onnx: write ``model.onnx``; needs the extra ``stillroom[export]``.
        int8: write ``model-int8.onnx`` too, where onnxruntime can quantise the graph.
        latency: measure the speed.
        say: told the progress, a line at a time.

    Raises:
        InputError: the model is no two-stage detector, an optional package is missing, the graph cannot be written, or
            it finds other boxes than PyTorch.
    """
    if onnx:
        require_onnx()
    detector = WholeDetector(model, image_size, max_size)
    facts = {**facts, "classes": list(classes), "image_size": image_size, "max_size": max_size}
    folder.mkdir(parents=True, exist_ok=True)
    save_weights(model, folder / "model.safetensors", {"stillroom": json.dumps(facts)})
    forms = {"PyTorch": torch_detections(detector, images)}
    parity, calibrated, missing = None, 0, ""
    graphs: list[Path] = []
    threads = torch.get_num_threads()
    if onnx:
        graph = folder / "model.onnx"
        write_detector_graph(detector, images[0], graph, facts)
        forms["onnxruntime"] = session_detections(open_session(graph, threads), images)
        parity = check_detections(forms["PyTorch"], forms["onnxruntime"])
        say(_in_words(parity))
        graphs.append(graph)
    if onnx and int8:
        small = folder / "model-int8.onnx"
        try:
            calibrated = write_detector_int8(graph, small, calibration or images)
            forms["onnxruntime int8"] = session_detections(open_session(small, threads), images)
            graphs.append(small)
        except InputError as error:
            small.unlink(missing_ok=True)
            calibrated, missing = 0, f"there is no int8 graph: {error}"
            say(missing)
    scores = _scores(forms, objects, len(classes), say)
    others = {} if teacher is None else {"teacher": WholeDetector(teacher, image_size, max_size)}
    timings = _measure_speed({"student": detector, **others}, graphs, images[0], folder, threads) if latency else ()
    return DetectorExport(parity, scores, calibrated, missing, timings)


def write_detector_int8(graph: Path, path: Path, images: Sequence[Tensor]) -> int:
    """Quantise the convolutions and linear layers of a detector's graph; boxes and their suppression stay float.

    Args:
        graph: what :func:`stillroom.export.detector_graph.write_detector_graph` wrote.
        path: the int8 graph.
        images: (3, H, W) in [0, 1]; at most :data:`CALIBRATION` are used.

    Returns:
        How many were used.

    Raises:
        InputError: onnxruntime cannot quantise the graph.
    """
    used = min(len(images), CALIBRATION)
    quantise_graph(graph, path, _Reader([images[place] for place in range(used)]), QUANTISED)
    return used


class _Reader:
    """The calibration reader of onnxruntime: one image at a time."""

    def __init__(self, images: Sequence[Tensor]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, Any] | None:
        """The next image by the name of the graph's input; None at the end."""
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None].contiguous().numpy()}


def _scores(
    forms: Mapping[str, Sequence[Detections]],
    objects: Sequence[ImageBoxes] | None,
    classes: int,
    say: Callable[[str], None],
) -> dict[str, AveragePrecision]:
    if objects is None:
        return {}
    scores = {form: average_precision(objects, found, classes) for form, found in forms.items()}
    for form, score in scores.items():
        say(f"{form}: AP {score.ap:.2f} %, AP50 {score.ap50:.2f} % on {score.count:,} images")
    return scores


def _measure_speed(
    detectors: Mapping[str, WholeDetector], graphs: Sequence[Path], image: Tensor, folder: Path, threads: int
) -> tuple[Timing, ...]:
    """Measure all forms side by side on the CPU with one image at a time, and write ``latency.json``."""
    libraries = ("torch", *(("onnxruntime",) if graphs else ()))
    record = machine_record() | {"versions": {name: version(name) for name in libraries}}
    calls: dict[Contender, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as aside:
        for who, detector in detectors.items():
            files = list(graphs)
            if who == "teacher" and graphs:
                files = [Path(aside) / "teacher.onnx"]
                write_detector_graph(detector, image, files[0], {})
            calls[who, "PyTorch"] = _torch_call(detector, image)
            for runtime, file in zip(RUNTIMES, files, strict=False):
                calls[who, runtime] = _session_call(open_session(file, threads), image)
        timings = tuple(time_calls(calls, 1))
    record |= {"missing": "", "results": [asdict(row) for row in timings]}
    write_text(folder / "latency.json", json.dumps(record, indent=2) + "\n")
    return timings


def _torch_call(detector: WholeDetector, image: Tensor) -> Callable[[], object]:
    return lambda: torch_detections(detector, [image])


def _session_call(session: Any, image: Tensor) -> Callable[[], object]:
    return lambda: session_detections(session, [image])


def _in_words(parity: DetectionParity) -> str:
    return (
        f"model.onnx agrees with PyTorch on {parity.images:,} images with {parity.detections:,} detections: edges "
        f"differ by at most {parity.box_difference:.1e} pixels, scores by at most {parity.score_difference:.1e}; "
        f"{parity.unmatched} detections have no counterpart"
    )
