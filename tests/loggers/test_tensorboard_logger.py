from __future__ import annotations

import pytest

from stillroom.compare.run_cell import train_cell
from tests.compare.test_cell_checks import grid_of
from tests.conftest import colour_folder
from tests.loggers.runs import EPOCHS, STEPS, kill_and_resume

pytest.importorskip("tensorboard")

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_a_resumed_run_continues_in_the_same_folder_and_no_number_is_doubled(tmp_path, tiny_data):
    record = kill_and_resume(tmp_path, tiny_data, "tensorboard")
    events = EventAccumulator(str(record.path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    accuracy = events.Scalars("val_top1")
    assert [event.step for event in accuracy] == [STEPS * epoch for epoch in range(1, EPOCHS + 1)]
    assert [event.value for event in accuracy] == pytest.approx([row["val_top1"] for row in record.epochs()])
    assert [event.step for event in events.Scalars("step/ce")] == list(range(1, EPOCHS * STEPS + 1))
    texts = {name: events.Tensors(name)[-1].tensor_proto.string_val[0].decode() for name in events.Tags()["tensors"]}
    assert '"batch_size": 16' in texts["settings/text_summary"]
    assert '"best/val_top1"' in texts["summary/text_summary"]


def test_each_run_of_a_comparison_has_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    (tmp_path / "photos").mkdir()
    grid = grid_of(colour_folder(tmp_path / "photos", count=6, side=8), tmp_path, log_to=["tensorboard"])
    for cell in grid.cells:
        assert not train_cell(cell, tmp_path / "log.txt", 1, 0).problem
        events = EventAccumulator(str(cell.run.path / "tensorboard"))
        events.Reload()
        assert len(events.Scalars("val_top1")) == cell.epochs
