from __future__ import annotations

import json
import struct

import pytest

from tests.loggers.runs import EPOCHS, STEPS, kill_and_resume, train_logged

pytest.importorskip("wandb")


def records(file):
    """The messages in a local wandb file, whose format is LevelDB's log: blocks of 32 KiB, parts with a header."""
    content, place, message = file.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # too little room for a header
            place += 32768 - place % 32768
            continue
        size, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        message += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield message
            message = b""


def history(file):
    """The rows in a local wandb file, and the settings and the summary."""
    from wandb.proto import wandb_internal_pb2

    rows, config, summary = [], {}, {}
    for data in records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.HasField("history"):
            items = record.history.item
            rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
        if record.HasField("run"):
            config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        if record.HasField("summary"):
            summary |= {item.key or item.nested_key[0]: item.value_json for item in record.summary.update}
    return rows, config, summary


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb-home"))


def test_a_resumed_run_keeps_its_id_and_logs_every_epoch(offline, tmp_path, tiny_data):
    record = kill_and_resume(tmp_path, tiny_data, "wandb")
    run_id = json.loads((record.path / "loggers.json").read_text())["wandb"]
    files = sorted(record.path.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime)
    assert [file.name for file in files] == [f"run-{run_id}.wandb"] * 2
    rows, config, summary = history(files[1])
    epochs = {int(row["epoch"]): row for row in rows if "epoch" in row}
    assert sorted(epochs) == [3, 4]
    assert epochs[EPOCHS]["_step"] == EPOCHS * STEPS
    assert epochs[EPOCHS]["val_top1"] == pytest.approx(record.epochs()[-1]["val_top1"])
    assert any("step/ce" in row for row in rows)
    assert config["batch_size"] == 16
    assert "summary/best/val_top1" in summary


def test_a_run_that_cannot_reach_wandb_is_trained_all_the_same(monkeypatch, tmp_path, tiny_data):
    import wandb

    def refuse(**_settings):
        raise wandb.errors.UsageError("api_key not configured")

    monkeypatch.setattr(wandb, "init", refuse)
    assert train_logged(tmp_path, tiny_data, "wandb").finished
