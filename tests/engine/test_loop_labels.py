"""Training images, or all images, without a label."""

from dataclasses import replace

import pytest
import torch

import stillroom
from stillroom.data import ImageSet
from stillroom.engine.predictions import predictions_of
from stillroom.errors import InputError
from stillroom.export.pipeline import export
from stillroom.report.runs_table import read_row
from stillroom.report.usable_runs import unusable_reason
from stillroom.runtime.reporters import Lines
from tests.conftest import tiny_model
from tests.engine.test_loop import run


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


@pytest.fixture
def partial_data(tiny_data):
    """Of 80 training images, the first 20 have a label."""
    train = tiny_data.train
    labels = torch.where(train.ids < 20, train.labels, -1)
    return replace(tiny_data, train=ImageSet(train.images, labels, train.ids, train.classes))


@pytest.fixture
def unlabelled_data(tiny_data):
    return replace(tiny_data, train=tiny_data.train.without_labels(), val=tiny_data.val.without_labels())


@pytest.mark.parametrize("method", ["ce + kd", "ce + dist"])
def test_unlabelled_images_count_in_the_loss_against_the_teacher_only(tmp_path, partial_data, teacher, method):
    said = []
    settings = {"batch_size": 16, "epochs": 4, "schedule": "constant"}
    student, record = run(tmp_path, partial_data, teacher, method, Lines(said.append), **settings)
    rows = record.epochs()
    assert all(torch.isfinite(value).all() for value in student.state_dict().values())
    assert rows[-1]["terms"]["ce"] < rows[0]["terms"]["ce"]
    assert rows[-1]["val_top1"] is not None
    assert rows[-1]["train_top1"] * 20 / 100 == pytest.approx(round(rows[-1]["train_top1"] * 20 / 100))
    assert any("60 of 80 training images have no label" in line for line in said)


def test_training_on_labels_leaves_unlabelled_images_out(tmp_path, partial_data, tiny_data):
    said = []
    student, record = run(tmp_path, partial_data, reporter=Lines(said.append), name="partial")
    assert any("60 of 80 training images have no label and are left out" in line for line in said)
    some = replace(tiny_data, train=tiny_data.train.at(torch.arange(20)))
    alone, _ = run(tmp_path, some, name="alone")
    for one, other in zip(student.parameters(), alone.parameters(), strict=True):
        assert torch.equal(one, other)
    again, _ = run(tmp_path, partial_data, name="partial")  # its record is found again
    assert torch.equal(next(again.parameters()), next(student.parameters()))
    assert record.config()["train_images"] == 80


def test_without_any_label_agreement_takes_the_place_of_accuracy(tmp_path, unlabelled_data, teacher):
    said = []
    _, record = run(tmp_path, unlabelled_data, teacher, "kd", Lines(said.append), export="best", epochs=4)
    rows, summary = record.epochs(), record.summary()
    for row in rows:
        assert [row[name] for name in ("train_top1", "val_top1", "val_top5", "val_loss")] == [None] * 4
        assert row["terms"]["ce"] == 0
        assert 0 <= row["agreement"] <= 100
    assert summary["best"]["agreement"] == max(row["agreement"] for row in rows)
    assert summary["teacher"] is None
    text = "\n".join(said)
    assert "the cross-entropy (ce) is 0 and has no effect" in text
    assert "accuracy cannot be measured; agreement with the teacher is reported instead" in text
    assert f"agreement with the teacher {rows[-1]['agreement']:.2f} %" in text
    assert "val " not in text
    assert f"agreement with the teacher after the last epoch is {rows[-1]['agreement']:.2f} %" in unusable_reason(
        record
    )
    assert read_row(record).cells()[2:4] == ("–", "–")
    predictions = predictions_of(record)
    assert set(predictions.labels.tolist()) == {-1}


def test_unlabelled_training_images_with_labelled_validation_images(tmp_path, tiny_data, teacher):
    data = replace(tiny_data, train=tiny_data.train.without_labels())
    _, record = run(tmp_path, data, teacher, "kd")
    assert record.epochs()[-1]["train_top1"] is None
    assert record.epochs()[-1]["val_top1"] is not None
    assert record.summary()["teacher"]["count"] == 40
    assert unusable_reason(record) == ""


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("dkd", r"dkd reads the labels, and 80 of 80 training images have none; use losses .* ldrld, kd"),
        ("nkd", "nkd reads the labels"),
        ("crd(dim=4, negatives=3)", "crd reads the labels of all training images"),
        ("ce", "learns from labels only, and no training image has one"),
    ],
)
def test_methods_that_need_labels_are_refused(tmp_path, unlabelled_data, teacher, method, words):
    with pytest.raises(InputError, match=words):
        run(tmp_path, unlabelled_data, teacher, method)


def test_training_on_labels_is_refused_without_any(tmp_path, unlabelled_data):
    with pytest.raises(InputError, match="learns from labels only, and no training image has one"):
        run(tmp_path, unlabelled_data)


def test_evaluation_and_export_of_what_has_no_labels_are_refused(tmp_path, unlabelled_data, teacher):
    student, record = run(tmp_path, unlabelled_data, teacher, "kd", epochs=1)
    with pytest.raises(InputError, match="the validation images have no labels, so that accuracy cannot be measured"):
        stillroom.evaluate(model=student, data=unlabelled_data)
    with pytest.raises(InputError, match=r"accuracy was not measured; .* An export states the accuracy"):
        export(record, student=student, data=unlabelled_data)
