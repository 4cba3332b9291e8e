"""MLflow: a run in the experiment ``stillroom``, or in that of the variable MLFLOW_EXPERIMENT_NAME.

The tracking server or database is MLflow's own setting: MLFLOW_TRACKING_URI, by default a database ``mlflow.db`` in the
working directory.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from stillroom.files import shown
from stillroom.loggers.logger import LoggedRun, Logger, numbers_in

PARAMS = 100  # in one request, as MLflow allows
CHARACTERS = 500  # of a value, which every version allows


class MLflowLogger(Logger):
    """Logs to MLflow. The step is the optimizer step; "epoch" is a number beside the others.

    A resumed run continues the MLflow run, and logs nothing there twice.
    """

    _client: MlflowClient
    _run: LoggedRun
    _id: str
    _seen = 0  # the last step that an earlier start logged
    _finished = False

    def start(self, run: LoggedRun) -> None:
        """Create the run there with its settings as parameters, or continue it."""
        self._run, self._client = run, MlflowClient()
        known = run.known_id("mlflow")
        if known is not None:
            self._id = known
            self._client.update_run(known, status="RUNNING")
            self._seen = max((metric.step for metric in self._client.get_metric_history(known, "epoch")), default=0)
            return
        created = self._client.create_run(self._experiment(), run_name=run.name)
        self._id = str(created.info.run_id)
        run.keep_id("mlflow", self._id)
        params = [Param(_plain(name), shown(value, CHARACTERS - 1)) for name, value in run.settings.items()]
        for first in range(0, len(params), PARAMS):
            self._client.log_batch(self._id, params=params[first : first + PARAMS])

    def step(self, step: int, losses: Mapping[str, float]) -> None:
        """Log each term as "step/NAME"."""
        self._log({f"step/{name}": value for name, value in losses.items()}, step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log each number at the last step of the epoch."""
        self._log({"epoch": epoch, **metrics}, epoch * self._run.steps)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Log the summary's numbers."""
        self._log(numbers_in(summary, "summary/"), int(summary["last"]["epoch"]) * self._run.steps + 1)
        self._finished = True

    def close(self) -> None:
        """End the run there; one that is not finished counts as killed until it is continued."""
        self._client.set_terminated(self._id, "FINISHED" if self._finished else "KILLED")

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "stillroom")
        found = self._client.get_experiment_by_name(name)
        return str(self._client.create_experiment(name) if found is None else found.experiment_id)

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if step <= self._seen:
            return
        now = round(1000 * time.time())
        self._client.log_batch(self._id, [Metric(_plain(name), value, now, step) for name, value in values.items()])


def _plain(name: str) -> str:
    """A name with the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name)
