"""The stored detections of finished runs, and the AP of each class that follows from them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from stillroom.engine.predictions import readable, teacher_path
from stillroom.engine.run_folder import RunFolder
from stillroom.reading import UnreadableError
from stillroom.tasks.average_precision import average_precision
from stillroom.tasks.detections_file import StoredDetections, read_detections


def detections_of(run: RunFolder) -> StoredDetections:
    """The detections of a finished run's exported weights in the validation images.

    Raises:
        InputError: they are missing, damaged or of other images.
    """
    with readable(run.predictions):
        return _read(run, run.predictions)


def teacher_detections_of(run: RunFolder) -> StoredDetections | None:
    """The detections of a run's teacher in the same images; None where there are none that can be read."""
    path = teacher_path(run)
    with suppress(OSError, UnreadableError):
        return None if path is None else _read(run, path)
    return None


def class_scores(run: RunFolder, found: StoredDetections) -> tuple[float | None, ...]:
    """The AP of each class in percent; None for a class without objects.

    Args:
        run: gives the classes.
        found: of the run or of its teacher.

    Raises:
        InputError: an optional package is missing.
    """
    return average_precision(found.objects, found.found, len(run.config()["classes"])).per_class


def _read(run: RunFolder, path: Path) -> StoredDetections:
    config = run.config()
    return read_detections(path, config["val_images"], len(config["classes"]))
