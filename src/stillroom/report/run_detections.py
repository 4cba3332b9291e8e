"""The stored detections of finished runs, and the AP of each class that follows from them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from stillroom.engine.predictions import teacher_path
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.reading import UnreadableError
from stillroom.tasks.average_precision import average_precision
from stillroom.tasks.detections_file import StoredDetections, read_detections


def detections_of(run: RunFolder) -> StoredDetections:
    """The detections of a finished run's exported weights in the validation images.

    Raises:
        InputError: they are missing, damaged or of other images.
    """
    try:
        return _read(run, run.predictions)
    except FileNotFoundError as error:
        raise InputError(
            f"{run.predictions} is missing; run the run's command again, which adds it from the run's last checkpoint"
        ) from error
    except OSError as error:
        raise InputError(f"{run.predictions} cannot be read ({error.strerror}); make it readable") from error
    except UnreadableError as error:
        raise InputError(f"{error}; remove it and run the run's command again, which writes it anew") from error


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
