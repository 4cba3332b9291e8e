"""The protocol of a logger, and what a logger is told about a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stillroom.errors import InputError
from stillroom.files import write_text
from stillroom.reading import read_json

IDS = "loggers.json"  # in the run folder: logger -> id of the run there


class Logger(Protocol):
    """Receives the numbers of one run. A subclass overrides the methods it needs; the others do nothing.

    ``log_to`` names the class, which is called without arguments. A method that raises an error ends the logger, not
    the run. Only the first process of a run has loggers.
    """

    def start(self, run: LoggedRun) -> None:
        """The run starts, or continues after ``run.done`` steps."""

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Log losses inside an epoch, every few seconds.

        Args:
            step: optimizer steps since the beginning of the run, >= 1.
            losses: each weighted term of the method, by name.
        """

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log the numbers of a finished epoch. After a kill, an epoch may be computed and logged again.

        Args:
            epoch: >= 1.
            metrics: as in ``metrics.jsonl``, without what was not measured; terms of the loss as "terms/NAME".
        """

    def finish(self, summary: Mapping[str, Any]) -> None:
        """The run is finished; ``summary`` is the content of ``summary.json``."""

    def close(self) -> None:
        """The run ends, finished or not. It is the last call."""


@dataclass(frozen=True)
class LoggedRun:
    """The run that a logger is told about.

    Attributes:
        name: of the run folder.
        folder: the run folder; files of a logger belong into a folder inside it.
        settings: all settings of the run by name, resolved.
        steps: optimizer steps in one epoch, >= 1.
        done: steps done before this start; 0 for a new run.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    steps: int
    done: int

    def known_id(self, logger: str) -> str | None:
        """The id of this run at a tracker, kept from an earlier start; None if there is none.

        Args:
            logger: name of the logger.
        """
        found = self._ids().get(logger)
        return found if isinstance(found, str) else None

    def keep_id(self, logger: str, run_id: str) -> None:
        """Keep the id of this run at a tracker in the run folder, so that a resumed run continues there."""
        write_text(self.folder / IDS, json.dumps({**self._ids(), logger: run_id}, indent=2) + "\n")

    def _ids(self) -> dict[str, Any]:
        with suppress(OSError, InputError):
            found = read_json(self.folder / IDS)
            return found if isinstance(found, dict) else {}
        return {}


def numbers_in(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers in nested mappings, each by its path: ``{"terms": {"kd": 1.5}}`` gives ``{"terms/kd": 1.5}``.

    Args:
        values: numbers, mappings, and other values, which are left out.
        prefix: of every name.
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= numbers_in(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = float(value)
    return found
