from __future__ import annotations

import pytest
import torch

import stillroom
from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.prepare.auto_settings import with_run_precision
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime import device
from stillroom.runtime.reporters import Silent
from stillroom.trust import given
from tests.prepare.test_run_identity import FAST, Opening


@pytest.fixture
def opening(tmp_path, tiny_data):
    return Opening(tmp_path, tiny_data)


def test_an_open_precision_is_that_of_the_run_that_goes_on(tmp_path, tiny_data, monkeypatch):
    def train(**settings):
        settings = {**FAST, "model": "tests.conftest:tiny_model", "data": "tiny", "runs": str(tmp_path), **settings}
        reporter = Silent()
        reporter.say = (said := []).append
        _, record = stillroom.api.run_recipe(
            make_recipe("train", settings), reporter, Inputs(data=tiny_data, trust=given([settings["model"]]))
        )
        return record.config()["precision"], said

    monkeypatch.setattr(device, "has_native_bf16", lambda kind: False)
    assert train(name="a", precision="auto")[0] == "32"
    monkeypatch.setattr(device, "has_native_bf16", lambda kind: True)
    precision, said = train(name="a", precision="auto")
    assert precision == "32"
    assert any("precision=32" in line and "here is bf16" in line for line in said)
    with pytest.raises(InputError, match="precision '32' there, 'bf16' now"):
        train(name="a", precision="bf16")
    assert train(name="b", precision="auto")[0] == "bf16"


@pytest.mark.parametrize(("name", "kind", "wanted"), [
    ("resnet20", "cpu", "bf16"), ("ShuffleV1", "cpu", "bf16"), ("MobileNetV2", "cpu", "32"),
    ("timm:tf_efficientnet_lite0", "cpu", "32"), ("timm:tf_efficientnet_lite0", "cuda", "bf16"),
])  # fmt: skip
def test_depthwise_networks_are_trained_in_float32_on_a_processor(name, kind, wanted, tmp_path):
    machine = device.Machine(torch.device(kind), "bf16")
    common = {"data": "tiny", "runs": str(tmp_path)}
    for recipe in (
        make_recipe("train", {**common, "model": name}),
        make_recipe("distill", {**common, "teacher": "timm:mobilenetv3_small_100", "student": name}),
    ):
        assert with_run_precision(recipe, machine, Silent()).precision == wanted
    given = make_recipe("train", {**common, "model": name, "precision": "bf16"})
    assert with_run_precision(given, machine, Silent()).precision == "bf16"


def test_what_was_left_to_be_decided_is_recorded_as_it_was_decided(opening):
    config = opening().run.config()
    assert (config["precision"], config["image_size"], config["bn_momentum"]) == ("32", 8, 0.1)
    assert config["device"] == "cpu"
    opening(bn_momentum=0.1, image_size=8)
    opening.assert_refused("bn_momentum", bn_momentum=0.2)


def test_a_run_may_go_on_on_another_device_and_says_so(opening):
    path = opening().run.path / "inputs.json"
    path.write_text(path.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    opening()
    assert any("started on cuda and continues on cpu" in line for line in opening.said)
