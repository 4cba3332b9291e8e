"""Record of the probes of a network: ``probes.json`` in the run folder, and one file beside the runs for a teacher.

The file maps a probe's name to the sets it was measured on, and each set to ``{"of": ..., "results": ...}``: what
decided the numbers, and the numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stillroom.engine.predictions import teacher_path
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.files import write_failure, write_text
from stillroom.reading import UnreadableError, read_json
from stillroom.runtime.folder_lock import locked

NAME = "probes.json"
LOCK = f".{NAME}.lock"  # beside a student's record while it is written
SECONDS_TO_WRITE = 30  # for other processes that add a result to the same record

Results = Mapping[str, Any]


@dataclass(frozen=True)
class ProbeResult:
    """The numbers of one probe on one set.

    Attributes:
        of: what decided them: the weights, the images, the settings. Plain values.
        results: numbers, texts, None, and lists and mappings of these.
    """

    of: Mapping[str, Any]
    results: Results


ProbeRecord = dict[str, dict[str, ProbeResult]]  # probe -> set -> result


def student_record(run: RunFolder) -> Path:
    """The file of a run's student."""
    return run.path / NAME


def teacher_record(run: RunFolder) -> Path | None:
    """The file of a run's teacher, which the runs beside each other share; None for a run without one."""
    path = teacher_path(run)
    return None if path is None else path.with_suffix(f".{NAME}")


def read_probes(path: Path) -> ProbeRecord:
    """The results in a record; none where there is no file.

    Raises:
        InputError: the file cannot be read, or is no such record.
    """
    try:
        content = read_json(path)
        return {
            str(probe): {str(on): ProbeResult(dict(one["of"]), dict(one["results"])) for on, one in sets.items()}
            for probe, sets in content.items()
        }
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); make it readable") from error
    except UnreadableError as error:
        raise InputError(f"{error}; remove it and run `stillroom probe` again") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no record of probes; remove it and run `stillroom probe` again") from error


def write_probe(path: Path, probe: str, on: str, result: ProbeResult) -> None:
    """Add one result to a record, or replace it; the other results stay, also those that another process adds.

    Args:
        path: of the record.
        probe: name of the probe.
        on: the set it was measured on.
        result: with finite numbers only.

    Raises:
        ValueError: a number is not finite.
        InputError: the file cannot be read or written.
        InUse: another process holds the record for longer than a write takes.
    """
    if bad := _not_finite(result.results):
        raise ValueError(f"{probe} on {on}: {bad} is not finite; record None for a number that does not exist")
    with locked(path.with_name(f".{path.name}.lock"), SECONDS_TO_WRITE):
        record = read_probes(path)
        record.setdefault(probe, {})[on] = result
        content = {
            name: {each: {"of": dict(one.of), "results": dict(one.results)} for each, one in sets.items()}
            for name, sets in record.items()
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        try:
            write_text(path, text)
        except OSError as error:
            raise write_failure(path, error, len(text.encode())) from error


def _not_finite(value: Any, name: str = "a number") -> str:
    """The name of the first number that is not finite; empty where all are."""
    if isinstance(value, Mapping):
        return next((bad for key, one in value.items() if (bad := _not_finite(one, str(key)))), "")
    if isinstance(value, list | tuple):
        return next((bad for one in value if (bad := _not_finite(one, name))), "")
    return name if isinstance(value, float) and not math.isfinite(value) else ""
