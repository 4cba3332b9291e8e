from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from tests.loggers.runs import EPOCHS, STEPS, kill_and_resume

# Not imported for every worker that collects this file: it takes seconds.
pytestmark = pytest.mark.skipif(
    not (find_spec("mlflow") and find_spec("sqlalchemy")), reason="the extra mlflow is missing"
)


def test_a_resumed_run_continues_and_logs_nothing_twice(monkeypatch, tmp_path, tiny_data):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    record = kill_and_resume(tmp_path, tiny_data, "mlflow", every_step=False)

    from mlflow.tracking import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == json.loads((record.path / "loggers.json").read_text())["mlflow"]
    assert (run.info.run_name, run.info.status) == ("r", "FINISHED")
    assert run.data.params["batch_size"] == "16"
    accuracy = client.get_metric_history(run.info.run_id, "val_top1")
    assert [metric.step for metric in accuracy] == [STEPS * epoch for epoch in range(1, EPOCHS + 1)]
    assert [metric.value for metric in accuracy] == pytest.approx([row["val_top1"] for row in record.epochs()])
    assert run.data.metrics["summary/best/val_top1"] == record.summary()["best"]["val_top1"]
