"""A pretrained model is measured as it is: no new head, its own input, its classes mapped."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from stillroom.api import evaluate
from stillroom.data import Loader
from stillroom.errors import InputError
from stillroom.input_format import InputFormat
from stillroom.models.predict import predict
from stillroom.tasks.classification_score import score


def saved(path, classes):
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=classes)
    save_file(model.state_dict(), path)
    return model


def test_a_checkpoint_is_measured_with_its_own_head_and_its_published_input(tmp_path, tiny_data):
    model, said = saved(tmp_path / "own.safetensors", 4), []
    given = {"model": "timm:test_resnet", "checkpoint": str(tmp_path / "own.safetensors"), "accelerator": "cpu"}
    found = evaluate(**given, data=tiny_data, image_size=8, say=said.append)
    facts = timm.data.resolve_model_data_config(model)
    own = InputFormat(tuple(facts["mean"]), tuple(facts["std"]))
    loader = Loader(tiny_data.val, batch_size=40, input_format=own, shuffle=False)
    expected = score(*predict(model, loader.epoch(0)))
    assert abs(found.loss - expected.loss) < 1e-4
    assert found.top1 == expected.top1
    assert any("takes images at" in line for line in said)


def test_classes_that_nobody_named_are_not_guessed(tmp_path, tiny_data):
    saved(tmp_path / "seven.safetensors", 7)
    given = {"model": "timm:test_resnet", "checkpoint": str(tmp_path / "seven.safetensors"), "accelerator": "cpu"}
    with pytest.raises(InputError, match=r"class_map=auto.*7 classes"):
        evaluate(**given, data=tiny_data, image_size=8, say=lambda _: None)
