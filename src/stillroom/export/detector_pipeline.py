"""The export pipeline of a detector: its images, the files of :mod:`detector_export`, ``config.json`` and a card."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.data.boxed_source import BoxedSource
from stillroom.data.decoding import open_image, pillow_silent, upright_rgb
from stillroom.errors import InputError
from stillroom.export.detector_card import write_detector_card
from stillroom.export.detector_export import CALIBRATION, DetectorExport, export_detector
from stillroom.export.detector_graph import OUTPUTS
from stillroom.export.export_config import export_config
from stillroom.export.exported_model import architecture_of
from stillroom.export.source_run import SourceRun
from stillroom.files import shown, write_text
from stillroom.restore import student_of, teacher_run_of

CHECKED = 200  # validation images on which all forms are compared


class OriginalImages(Sequence[Tensor]):
    """The first images of a source in their own size, float32 (3, H, W) in [0, 1]; decoded when they are needed.

    Args:
        source: images with boxes.
        count: how many at most.
    """

    def __init__(self, source: BoxedSource, count: int) -> None:
        self._source, self._count = source, min(count, len(source))

    def __len__(self) -> int:
        """Return the number of images."""
        return self._count

    def __getitem__(self, place: Any) -> Any:
        """Return an image.

        Raises:
            InputError: it cannot be read; the message names it.
        """
        stored = int(self._source.places[range(self._count)[place]])
        try:
            with pillow_silent(), open_image(self._source.store[stored]) as (_, image):
                pixels = np.array(upright_rgb(image))
        except Exception as error:
            name = shown(self._source.names[stored])
            raise InputError(f"{name} cannot be read ({error}); repair or remove it") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).float().div(255).contiguous()


def make_detector_files(
    source: SourceRun, folder: Path, *, onnx: bool, int8: bool, latency: bool, say: Callable[[str], None]
) -> DetectorExport:
    """Write all files of a detector's export to a folder.

    Args:
        source: a run on images with boxes.
        folder: where the files go.
        onnx: as in :func:`stillroom.export.pipeline.export`.
        int8: as there.
        latency: as there.
        say: told the progress, a line at a time.

    Raises:
        InputError: as there.
    """
    train, val = source.data.train, source.data.val
    if not isinstance(train, BoxedSource) or not isinstance(val, BoxedSource):
        raise InputError(f"{source.run.path}: its images have no boxes; an export of a detector requires them")
    home = architecture_of(source)
    config = _config(export_config(source, home), val)
    write_text(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    student: Any = copy.deepcopy(source.student)
    student.transform.image_mean, student.transform.image_std = list(source.data.mean), list(source.data.std)
    images = OriginalImages(val, CHECKED)
    teacher = teacher_run_of(source.run) if latency else None
    result = export_detector(
        student,
        folder,
        images,
        image_size=val.image_size,
        max_size=val.max_size,
        classes=val.classes,
        facts={"model": config["model"], "task": "detection"},
        objects=val.objects[: len(images)],
        calibration=OriginalImages(train, CALIBRATION),
        teacher=None if teacher is None else student_of(teacher, source.data),
        onnx=onnx,
        int8=int8,
        latency=latency,
        say=say,
    )
    write_detector_card(folder, config, home, result, source.summary)
    return result


def _config(config: Mapping[str, Any], images: BoxedSource) -> dict[str, Any]:
    """The ``config.json`` of a classifier with what differs for a detector."""
    size = {"image_size": images.image_size, "max_size": images.max_size}
    return {
        **config,
        "task": "detection",
        "input": {**config["input"], **size, "resize": "inside the model: the shorter side to image_size"},
        "output": {"names": list(OUTPUTS)},
    }
