from __future__ import annotations

import pytest
import torch
from torch import nn

import stillroom
from stillroom.data import Loader
from stillroom.engine import finish as module
from stillroom.engine.predictions import predictions_of
from stillroom.models.predict import predict
from tests.conftest import tiny_model

FAST = {"epochs": 3, "batch_size": 16, "lr": 0.3, "accelerator": "cpu", "precision": "32"}


def trained(tmp_path, data, model=None, **settings):
    torch.manual_seed(3)
    return stillroom.train(model=model or tiny_model(), data=data, runs=str(tmp_path), **{**FAST, **settings})


@pytest.mark.parametrize("export", ["last", "best"])
def test_a_run_killed_in_its_last_moment_ends_with_the_same_predictions(tmp_path, tiny_data, monkeypatch, export):
    def killed(*_):
        raise KeyboardInterrupt

    whole = trained(tmp_path / "whole", tiny_data, export=export).record
    with monkeypatch.context() as patch:
        patch.setattr(module, "keep_predictions", killed)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", tiny_data, export=export)
    record = trained(tmp_path / "killed", tiny_data, export=export).record
    assert torch.equal(predictions_of(record).logits, predictions_of(whole).logits)


def test_the_predictions_are_those_of_the_exported_weights(tmp_path, tiny_data):
    student, record = trained(tmp_path, tiny_data, export="best")
    loader = Loader(
        tiny_data.val, batch_size=40, input_format=tiny_data.input_format, shuffle=False, channels_last=True
    )
    logits, _ = predict(student, loader.epoch(0))
    assert torch.allclose(predictions_of(record).logits, logits, rtol=1e-3, atol=2e-3)


def test_a_summary_has_the_cost_of_both_models(tmp_path, tiny_data):
    teacher = trained(tmp_path, tiny_data, tiny_model(width=16)).record
    run = stillroom.distill(
        teacher=tiny_model(width=16), student=tiny_model(), data=tiny_data, method="kd", runs=str(tmp_path),
        name="student", **FAST,
    ).record  # fmt: skip
    summary = run.summary()
    assert summary["macs"] == 64 * 27 * 8 + 8 * 4
    assert summary["teacher_macs"] == teacher.summary()["macs"] == 64 * 27 * 16 + 16 * 4
    assert summary["teacher_parameters"] == teacher.summary()["parameters"]


class NoSingleImage(nn.Module):
    """A model that a single image does not satisfy."""

    def __init__(self):
        super().__init__()
        self.body = tiny_model()

    def forward(self, images):
        if len(images) == 1:
            raise ValueError("one image is too few")
        return self.body(images)


def test_a_model_whose_operations_cannot_be_counted_still_ends_its_run(tmp_path, tiny_data):
    assert trained(tmp_path, tiny_data, NoSingleImage()).record.summary()["macs"] is None
