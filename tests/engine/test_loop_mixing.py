"""The loop with mixed images, balanced sampling, label smoothing and class weights."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch

from stillroom.errors import InputError, Stopped
from stillroom.runtime.reporters import Lines
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model, tiny_set
from tests.engine.test_loop import At, run, same_weights

MIXING = {"mixup": 0.4, "cutmix": 1.0}
STEEP = {"label_smoothing": 0.1, "class_weights": "balanced"}
BALANCED = {"mixup": 0.4, "sampling": "balanced", "repeat_views": 2}


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


@pytest.fixture
def uneven_data(tiny_data):
    """Of 80 training images, one class has 60 and another one 2."""
    images = tiny_set(60)
    kept = [(images.labels == label).nonzero().flatten()[:count] for label, count in enumerate((60, 10, 8, 2))]
    return replace(tiny_data, train=images.at(torch.cat(kept)))


@pytest.mark.parametrize("settings", [MIXING | STEEP, BALANCED])
@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_stopped_run_continues_bit_for_bit(tmp_path, uneven_data, teacher, settings, precision):
    common = {"accumulate": 2, "precision": precision, "batch_size": 18} | settings
    whole, record = run(tmp_path, uneven_data, teacher, "dkd", name="whole", **common)
    stop = At(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, uneven_data, teacher, "dkd", name="cut", reporter=stop, **common)
    resumed, again = run(tmp_path, uneven_data, teacher, "dkd", name="cut", **common)
    assert same_weights(whole.state_dict(), resumed.state_dict())
    assert [row["train_top1"] for row in record.epochs()] == [row["train_top1"] for row in again.epochs()]
    for name, value in settings.items():
        assert record.config()[name] == value
    plain, _ = run(tmp_path, uneven_data, teacher, "dkd", name="plain", precision=precision, batch_size=18)
    assert not same_weights(whole.state_dict(), plain.state_dict())


@pytest.mark.parametrize("settings", [MIXING, BALANCED])
@pytest.mark.parametrize("method", ["kd", "0.1*mlkd"])
def test_a_run_that_fills_a_bank_and_one_that_reads_it_are_identical(
    tmp_path, uneven_data, teacher, monkeypatch, settings, method
):
    bank = str(tmp_path / "bank")
    first, _ = run(tmp_path, uneven_data, teacher, method, name="first", bank=bank, **settings)
    computed = []
    predict = TorchTeacher.predict

    def counted(self, batch):
        computed.extend([] if self._machine is None else [batch])
        return predict(self, batch)

    monkeypatch.setattr(TorchTeacher, "predict", counted)
    second, _ = run(tmp_path, uneven_data, teacher, method, name="second", bank=bank, **settings)
    assert computed == []
    assert same_weights(first.state_dict(), second.state_dict())
    run(tmp_path, uneven_data, teacher, method, name="plain", bank=bank)
    assert computed  # the stored logits are those of mixed, or otherwise chosen, images


@pytest.mark.parametrize("settings", [{"sampling": "balanced"}, {"patience": 2}], ids=["balanced", "held out"])
def test_a_bank_is_of_one_set_of_labels_where_they_decide_which_images_are_shown(
    tmp_path, uneven_data, teacher, settings
):
    banks = [
        run(tmp_path, data, teacher, "kd", name=name, epochs=1, bank=str(tmp_path / "bank"), **settings)[1]
        for name, data in (
            ("one", uneven_data),
            ("other", replace(uneven_data, train=replace(uneven_data.train, labels=uneven_data.train.labels.flip(0)))),
        )
    ]
    assert banks[0].config()["teacher_bank"] != banks[1].config()["teacher_bank"]


def test_balanced_training_learns_the_small_classes(tmp_path, uneven_data):
    for name, settings in (("sampled", {"sampling": "balanced"}), ("weighted", {"class_weights": "balanced"})):
        _, plain = run(tmp_path, uneven_data, name=f"plain-{name}", epochs=2)
        _, record = run(tmp_path, uneven_data, name=name, epochs=2, **settings)
        assert record.summary()["last"]["val_top1"] > plain.summary()["last"]["val_top1"] + 20


def test_training_accuracy_counts_the_label_of_the_larger_fraction(tmp_path, tiny_data):
    labels = torch.where(tiny_data.train.ids % 2 > 0, tiny_data.train.labels, -1)
    partly = replace(tiny_data, train=replace(tiny_data.train, labels=labels))
    skilled, _ = run(tmp_path, tiny_data, name="teacher", epochs=8)
    for name, data in (("all", tiny_data), ("some", partly)):
        _, record = run(tmp_path, data, skilled, "kd", name=name, epochs=6, mixup=1.0)
        rows = record.epochs()
        assert 40 < rows[-1]["train_top1"] <= 100
        assert all(torch.isfinite(torch.tensor(list(row["terms"].values()))).all() for row in rows)
        assert rows[-1]["terms"]["ce"] > 0


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("revision", {"cutmix": 1.0}, "revision reads one label of each image and has no rows.*with cutmix=1"),
        ("crd(dim=4, negatives=3)", {"mixup": 0.2}, "crd remembers each image by its sample id; with mixup=0.2"),
        (
            "kd",
            {"sampling": "balanced", "class_weights": "balanced"},
            "class_weights=balanced: give none with sampling",
        ),
    ],
)
def test_settings_that_rule_each_other_out_are_refused_before_training(
    tmp_path, tiny_data, teacher, method, settings, words
):
    with pytest.raises(InputError, match=words):
        run(tmp_path, tiny_data, teacher, method, **settings)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("setting", ["sampling", "class_weights"])
def test_balance_without_labels_is_refused(tmp_path, tiny_data, teacher, setting):
    unlabelled = replace(tiny_data, train=tiny_data.train.without_labels())
    with pytest.raises(InputError, match=f"{setting}=balanced counts the images of each class"):
        run(tmp_path, unlabelled, teacher, "kd", **{setting: "balanced"})


def test_settings_of_a_cross_entropy_that_is_not_there_are_noted(tmp_path, tiny_data, teacher):
    said = []
    run(tmp_path, tiny_data, teacher, "0*ce + kd", Lines(said.append), epochs=1, label_smoothing=0.1)
    assert any("label_smoothing and class_weights have no effect" in line for line in said)
