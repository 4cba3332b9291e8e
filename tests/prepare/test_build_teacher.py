"""A teacher's input format: its run's, or what the settings say."""

import pytest
import torch

from stillroom.api import distill, train
from tests.conftest import tiny_model

SHORT = {"epochs": 1, "batch_size": 16, "accelerator": "cpu", "precision": "32"}


@pytest.mark.parametrize("setting", [{"teacher_mean": [0.1] * 3, "teacher_std": [0.9] * 3}, {"teacher_image_size": 16}])
def test_the_teacher_takes_images_as_the_settings_say(tmp_path, tiny_data, setting):
    torch.manual_seed(0)
    teacher = tiny_model(width=16)
    found = [
        distill(
            teacher=teacher, student=tiny_model(), data=tiny_data, method="kd", runs=str(tmp_path), name=name, **SHORT,
            **given,
        ).record.summary()["teacher"]["loss"]
        for name, given in (("as-student", {}), ("own", setting))
    ]  # fmt: skip
    assert found[0] != found[1]


def test_a_run_as_teacher_keeps_its_own_normalisation(tmp_path, tiny_data):
    own = {"mean": [0.2, 0.3, 0.4], "std": [0.5, 0.5, 0.5]}
    taught = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="t", **own, **SHORT)
    other = {"mean": [0.6] * 3, "std": [0.1] * 3}
    record = distill(
        teacher=taught.record.path, student="resnet8", data=tiny_data, method="kd", runs=str(tmp_path), name="s",
        **other, **SHORT,
    ).record  # fmt: skip
    assert record.summary()["teacher"]["top1"] == taught.record.summary()["last"]["val_top1"]
