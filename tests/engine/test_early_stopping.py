from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import stillroom
from stillroom.api import run_recipe
from stillroom.compare.grid import Cell, Grid
from stillroom.compare.plan import is_done
from stillroom.config import make_recipe
from stillroom.engine import early_stopping, loop
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, Stopped
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.stop_images import hold_out
from stillroom.report.runs_table import read_row
from stillroom.report.usable_runs import unusable_reason
from stillroom.runtime.reporters import Silent
from stillroom.tasks import classification
from stillroom.tasks.classification_score import Evaluation
from tests.conftest import colour_folder
from tests.engine import processes
from tests.engine.test_loop import SETTINGS, run, same_weights, teacher  # noqa: F401  a fixture

MEASURED = {"seconds", "bank_seconds", "images_per_second", "peak_memory_bytes"}


def numbers(record):
    rows = [{key: value for key, value in row.items() if key not in MEASURED} for row in record.epochs()]
    summary = {key: value for key, value in record.summary().items() if key not in {*MEASURED, "last", "best"}}
    return rows, summary


def judged_by(monkeypatch, *accuracies):
    """Let the held-out images give these accuracies, epoch by epoch."""
    left, score = list(accuracies), classification.score

    def judged(logits, labels):
        held_out = len(labels) == 8
        return Evaluation(left.pop(0), 99.0, 1.0, 8) if held_out else score(logits, labels)

    monkeypatch.setattr(classification, "score", judged)


def held_out(data, **settings):
    made = make_recipe("train", {**SETTINGS, "model": "m", "patience": 1, **settings})
    return hold_out(made, replace(data, train=data.train.hashed()))[1]


def top1(model, data, images):
    return stillroom.evaluate(model=model, data=replace(data, val=images)).top1


class Says(Silent):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


def test_a_run_ends_when_the_held_out_images_show_no_gain_and_is_finished(tmp_path, tiny_data, monkeypatch):
    judged_by(monkeypatch, 30, 50, 50, 40, 90)
    said = Says()
    _, record = run(tmp_path, tiny_data, patience=2, epochs=9, reporter=said)
    assert [row["stop_top1"] for row in record.epochs()] == [30, 50, 50, 40]
    summary = record.summary()
    assert summary["early_stop"] == {"stopped": True, "epoch": 4, "best_epoch": 2, "images": 8}
    assert (summary["last"]["epoch"], summary["best"]["epoch"]) == (4, 2)
    assert said.lines[-1].startswith("stopped after epoch 4 of 9: no epoch after 2 was better on the 8 training images")
    assert record.complete
    assert unusable_reason(record) == ""
    assert read_row(record).best == record.epochs()[1]["val_top1"]
    before = record.student.stat().st_mtime_ns
    _, again = run(tmp_path, tiny_data, patience=2, epochs=9)
    assert again.student.stat().st_mtime_ns == before


def test_a_run_that_improves_to_its_end_is_not_stopped(tmp_path, tiny_data, monkeypatch):
    judged_by(monkeypatch, 30, 40, 50)
    _, record = run(tmp_path, tiny_data, patience=1)
    assert record.summary()["early_stop"] == {"stopped": False, "epoch": 3, "best_epoch": 3, "images": 8}
    _, plain = run(tmp_path, tiny_data, name="plain")
    assert "early_stop" not in plain.summary()
    assert "stop_top1" not in plain.epochs()[0]


def test_the_best_weights_are_those_of_the_best_epoch_on_the_held_out_images(tmp_path, tiny_data, monkeypatch):
    judged_by(monkeypatch, 30, 50, 40, 40)
    student, record = run(tmp_path, tiny_data, patience=2, epochs=9, schedule="constant", export="best")
    monkeypatch.undo()
    two, _ = run(tmp_path, tiny_data, patience=2, epochs=2, schedule="constant", name="two")
    assert record.summary()["exported"] == "best"
    assert same_weights(student.state_dict(), two.state_dict())


@pytest.mark.parametrize("settings", [{}, {"ema": 0.5}, {"ema": 0.5, "ema_export": False}])
def test_the_exported_weights_are_judged(tmp_path, tiny_data, settings):
    student, record = run(tmp_path, tiny_data, patience=3, stop_fraction=0.3, lr=0.02, **settings)
    images = held_out(tiny_data, stop_fraction=0.3)
    assert record.epochs()[-1]["stop_top1"] == pytest.approx(top1(student, tiny_data, images), abs=1e-6)


def test_no_step_sees_an_image_that_judges(tmp_path, tiny_data, monkeypatch):
    seen = set()
    monkeypatch.setattr(loop.Loop, "_teacher_output", lambda _, batch: seen.update(batch.ids.tolist()))
    run(tmp_path, tiny_data, patience=3, stop_fraction=0.3)
    assert seen == set(tiny_data.train.ids.tolist()) - set(held_out(tiny_data, stop_fraction=0.3).ids.tolist())


class Dies(Silent):
    """Ends the process's work in the epoch of the decision, after it was judged and before it was saved."""

    def epoch(self, row):
        if row["epoch"] == 4:
            raise OSError("as if killed")


@pytest.mark.parametrize("every", [1, 2])
def test_a_run_killed_before_the_decision_is_saved_ends_bit_for_bit(tmp_path, tiny_data, monkeypatch, every):
    settings = {"patience": 2, "epochs": 9, "checkpoint_every": every, "ema": 0.5, "export": "best"}
    judged_by(monkeypatch, 30, 50, 50, 40)
    whole, record = run(tmp_path, tiny_data, name="whole", **settings)
    judged_by(monkeypatch, 30, 50, 50, 40)
    with pytest.raises(OSError, match="as if killed"):
        run(tmp_path, tiny_data, name="cut", reporter=Dies(), **settings)
    judged_by(monkeypatch, *([50, 40] if every == 2 else [40]))
    resumed, again = run(tmp_path, tiny_data, name="cut", **settings)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert numbers(again) == numbers(record)


def test_a_run_killed_after_the_decision_trains_no_further_epoch(tmp_path, tiny_data, monkeypatch):
    judged_by(monkeypatch, 50, 40)
    whole, record = run(tmp_path, tiny_data, name="whole", patience=1, epochs=9)
    judged_by(monkeypatch, 50, 40)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "finish", lambda *_: (_ for _ in ()).throw(OSError("as if killed")))
        with pytest.raises(OSError, match="as if killed"):
            run(tmp_path, tiny_data, name="cut", patience=1, epochs=9)
    resumed, again = run(tmp_path, tiny_data, name="cut", patience=1, epochs=9)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert numbers(again) == numbers(record)


def test_a_stop_request_among_the_held_out_images_goes_on_bit_for_bit(tmp_path, tiny_data, monkeypatch):
    whole, record = run(tmp_path, tiny_data, name="whole", patience=3)
    judge = early_stopping.EarlyStopping.judge

    def stopped_in_it(self, model, epoch, batches):
        if epoch == 2:
            raise Stopped("as if asked", 15)
        return judge(self, model, epoch, batches)

    with monkeypatch.context() as patch:
        patch.setattr(early_stopping.EarlyStopping, "judge", stopped_in_it)
        with pytest.raises(Stopped):
            run(tmp_path, tiny_data, name="cut", patience=3)
    resumed, again = run(tmp_path, tiny_data, name="cut", patience=3)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert numbers(again) == numbers(record)


def test_with_a_bank_the_run_is_the_same_and_the_bank_of_all_images_is_another(tmp_path, tiny_data, teacher):  # noqa: F811
    settings = {"patience": 3, "method": "kd"}
    run(tmp_path, tiny_data, teacher, name="plain", **settings)
    bank = {"bank": str(tmp_path / "bank")}
    run(tmp_path, tiny_data, teacher, name="all", method="kd", **bank)
    for name in ("filling", "reading"):
        record = run(tmp_path, tiny_data, teacher, name=name, **settings, **bank)[1]
    assert len([folder for folder in (tmp_path / "bank").iterdir() if folder.is_dir()]) == 2
    filled = RunFolder(tmp_path / "filling")
    assert [row["terms"] for row in filled.epochs()] == [row["terms"] for row in record.epochs()]
    assert [row["loss"] for row in record.epochs()] == pytest.approx(
        [row["loss"] for row in RunFolder(tmp_path / "plain").epochs()], rel=1e-2
    )


@pytest.mark.parametrize("banked", [False, True])
def test_without_labels_agreement_with_the_teacher_on_the_held_out_images_decides(tmp_path, tiny_data, teacher, banked):  # noqa: F811
    data = replace(tiny_data, train=tiny_data.train.without_labels())
    bank = {"bank": str(tmp_path / "bank")} if banked else {}
    student, record = run(tmp_path, data, teacher, "0*ce + 1*kd", patience=3, stop_fraction=0.4, **bank)
    images = held_out(data, stop_fraction=0.4)
    pixels = (images.images / 255 - 0.5) / 0.25
    with torch.no_grad():
        same = (student.eval()(pixels).argmax(1) == teacher.eval()(pixels).argmax(1)).float().mean()
    assert record.epochs()[-1]["stop_agreement"] == pytest.approx(100 * float(same), abs=1e-4)
    assert record.epochs()[-1]["val_top1"] is not None


class Embedding(nn.Module):
    def forward(self, images):
        return images.mean((2, 3))


def test_a_run_without_anything_to_judge_by_is_refused(tmp_path, tiny_data):
    data = replace(tiny_data, train=tiny_data.train.without_labels(), val=tiny_data.val.without_labels())
    settings = {"teacher_output": "embedding", "patience": 2}
    with pytest.raises(InputError, match=r"patience=2: neither accuracy nor agreement.*leave patience out"):
        run(tmp_path, data, Embedding(), "0*ce + embed_cosine", **settings)
    with pytest.raises(InputError, match=r"stop_fraction=0.2: give patience too"):
        run(tmp_path, tiny_data, stop_fraction=0.2)


def test_an_initial_stage_is_not_judged(tmp_path, tiny_data):
    torch.manual_seed(5)
    skilled, student = processes.model(8, 5), processes.model(4, 11)
    recipe = make_recipe("distill", {**SETTINGS, "teacher": "t", "student": "s", "method": "ab(initial_epochs=2)",
                                     "patience": 1, "epochs": 3, "runs": str(tmp_path), "name": "r"})  # fmt: skip
    _, record = run_recipe(recipe, Silent(), Inputs(teacher=skilled, student=student, data=tiny_data))
    assert ["stop_top1" in row for row in record.epochs()] == [False, False, True]
    assert record.summary()["best"]["epoch"] == 3


def test_images_in_files_are_held_out_too(tmp_path):
    data = colour_folder(tmp_path / "photos", 20, 12) if (tmp_path / "photos").mkdir() is None else None
    settings = {**SETTINGS, "pad": 0, "patience": 1, "epochs": 4, "model": "resnet8", "val_fraction": 0.2}
    records = []
    for source in ("memory", "files"):
        chosen = {**settings, "data": str(data), "source": source, "workers": 0}
        recipe = make_recipe("train", {**chosen, "runs": str(tmp_path), "name": source})
        records.append(run_recipe(recipe, Silent()).record)
    assert [row["stop_top1"] for row in records[0].epochs()] == [row["stop_top1"] for row in records[1].epochs()]
    assert records[0].summary()["early_stop"] == records[1].summary()["early_stop"]


def test_a_comparison_takes_a_stopped_run_as_done_and_a_foreign_record_is_refused(tmp_path, tiny_data, monkeypatch):
    judged_by(monkeypatch, 50, 40)
    _, record = run(tmp_path, tiny_data, patience=1, epochs=5)

    cell = Cell(record.path.name, "train", {"runs": str(record.path.parent)})
    assert is_done(Grid(tmp_path, (cell,), {}), cell)
    path = record.path / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"early_stop": {"stopped": "yes"}}))
    with pytest.raises(InputError, match="early_stop cannot be"):
        record.summary()
