"""A reporter that also tells loggers. A logger that fails is dropped, and the run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stillroom.errors import first_line
from stillroom.loggers.logger import LoggedRun, Logger, numbers_in
from stillroom.loggers.logger_names import make_loggers
from stillroom.reading import read_json, read_yaml
from stillroom.runtime.reporters import Reporter, Values
from stillroom.trust import Trust

STEP_SECONDS = 5.0  # between two looks at the losses inside an epoch, which wait for the device


@contextmanager
def logging_to(names: Sequence[str] | None, trust: Trust, folder: Path, shown: Reporter) -> Iterator[Reporter]:
    """Log a run: its epochs while it is trained, and its summary if it is finished at the end of the block.

    Args:
        names: the setting ``log_to``.
        trust: which names may be imported.
        folder: of the run, with its ``config.yaml``.
        shown: shows the progress.

    Yields:
        The reporter for the training loop.

    Raises:
        InputError: as for :func:`stillroom.loggers.logger_names.make_loggers`.
    """
    if not names:
        yield shown
        return
    reporter = LoggingReporter(shown, make_loggers(names, trust), folder, read_yaml(folder / "config.yaml"))
    try:
        yield reporter
        reporter.finish(read_json(folder / "summary.json"))
    finally:
        reporter.end()


class LoggingReporter:
    """Passes what it is told to another reporter and to loggers.

    Args:
        shown: the reporter that shows the progress.
        loggers: by name.
        folder: of the run.
        settings: of the run, resolved.
    """

    def __init__(
        self, shown: Reporter, loggers: Mapping[str, Logger], folder: Path, settings: Mapping[str, Any]
    ) -> None:
        self._shown, self._loggers = shown, dict(loggers)
        self._folder, self._settings = folder, settings
        self._steps, self._logged = 0, 0.0

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Start the loggers, which may print, before a bar is drawn."""
        run = LoggedRun(name, self._folder, self._settings, steps, done)
        self._tell(lambda logger: logger.start(run))
        self._steps, self._logged = done, time.monotonic()
        self._shown.start(name, epochs, steps, done, about)

    def step(self, epoch: int, images: int, values: Values) -> None:
        """Count the step; log its losses if the last ones are some seconds old."""
        self._shown.step(epoch, images, values)
        self._steps += 1
        now = time.monotonic()
        if self._loggers and now - self._logged >= STEP_SECONDS:
            self._logged = now
            losses = dict(values())
            self._tell(lambda logger: logger.step(self._steps, losses))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Log the numbers of the epoch."""
        self._shown.epoch(row)
        metrics = numbers_in({name: value for name, value in row.items() if name != "epoch"})
        self._tell(lambda logger: logger.epoch(row["epoch"], metrics))

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Tell the loggers that the run is finished."""
        self._tell(lambda logger: logger.finish(summary))

    def say(self, text: str) -> None:
        """Show any other message."""
        self._shown.say(text)

    def close(self) -> None:
        """Close the other reporter; the loggers are told the summary later."""
        self._shown.close()

    def end(self) -> None:
        """Close the loggers."""
        self._tell(lambda logger: logger.close())

    def _tell(self, what: Callable[[Logger], None]) -> None:
        """Call each logger; one that fails is closed and receives nothing more."""
        for name, logger in list(self._loggers.items()):
            try:
                what(logger)
            except (Exception, SystemExit) as error:  # noqa: BLE001  a tracker may fail in any way
                del self._loggers[name]
                self._shown.say(
                    f"warning: log_to={name} failed ({first_line(error)}); it receives nothing more, the run continues"
                )
                with suppress(Exception, SystemExit):
                    logger.close()
