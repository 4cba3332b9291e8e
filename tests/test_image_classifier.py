from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from stillroom.data.framing import Framing, decode_framed
from stillroom.errors import InputError
from stillroom.image_classifier import open_classifier
from stillroom.image_prediction import predict_images
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models import published_crop_fraction, published_input, save_weights
from stillroom.runtime.device import Machine
from tests.models.test_efficientnet_lite0 import drawn
from tests.teachers.onnx_models import FACTS, MEAN, STD, torch_and_onnx, write_onnx

CPU = Machine(torch.device("cpu"), "32")
NAMED = {"classes": FACTS["classes"], "mean": list(MEAN), "std": list(STD)}


def weights_of(folder, classes: int, name: str = "test_resnet"):
    """A timm model with random weights, and its checkpoint."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=classes).eval()
    save_weights(model, folder / "w.safetensors")
    return model, str(folder / "w.safetensors")


def noise(path, side: int):
    """An image file, and its pixels (1, 3, side, side)."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path, torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_the_published_network_recognises_a_drawn_thing_and_names_it_in_words(tmp_path, precision):
    Image.fromarray(drawn("traffic light")[0].permute(1, 2, 0).numpy()).save(tmp_path / "light.png")
    said: list[str] = []
    (found,) = predict_images(
        "efficientnet-lite0", tmp_path, top=3, accelerator="cpu", precision=precision, say=said.append
    )
    assert found.classes[0] == "n06874185 traffic light"
    assert not said


def test_a_checkpoint_of_a_timm_model_predicts_in_its_published_input_format(tmp_path):
    model, file = weights_of(tmp_path, 5)
    wanted = published_input("timm:test_resnet", model)
    fraction = published_crop_fraction("timm:test_resnet", model)
    assert fraction == 0.95
    path, _ = noise(tmp_path / "a.png", 180)
    pixels = decode_framed(path, Framing(wanted.size[0], crop_fraction=fraction))
    said: list[str] = []
    (found,) = predict_images("timm:test_resnet", path, checkpoint=file, accelerator="cpu", say=said.append)
    with torch.no_grad():
        expected = model(InputTransform(wanted)(pixels)).softmax(1)[0].sort(descending=True)
    assert found.classes == tuple(str(place) for place in expected.indices.tolist())
    assert found.probabilities == pytest.approx(expected.values.tolist(), abs=1e-5)
    assert said == ["note: the classes of timm:test_resnet have no names; their numbers are shown, from 0. "
                    "class_names=FILE names them"]  # fmt: skip
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\neel\n")
    said.clear()
    (named,) = predict_images(
        "timm:test_resnet", path, checkpoint=file, class_names=tmp_path / "names.txt", accelerator="cpu",
        say=said.append,
    )  # fmt: skip
    assert named.classes == tuple(["ant", "bee", "cat", "dog", "eel"][int(place)] for place in found.classes)
    assert not said


def test_a_checkpoint_for_a_thousand_classes_has_those_of_imagenet_and_a_note_says_so(tmp_path):
    _, file = weights_of(tmp_path, 1000)
    said: list[str] = []
    classifier = open_classifier("timm:test_resnet", CPU, checkpoint=file, say=said.append)
    assert classifier.classes[:2] == ("n01440764 tench", "n01443537 goldfish")
    assert len(set(classifier.classes)) == 1000
    assert said == ["note: the classes are those of the published weights of timm:test_resnet; class_names=FILE names "
                    "others"]  # fmt: skip


def test_an_onnx_file_of_an_export_predicts_as_its_network(tmp_path):
    model = torch_and_onnx(tmp_path / "model.onnx", NAMED)
    path, pixels = noise(tmp_path / "a.png", 8)
    (found,) = predict_images(tmp_path / "model.onnx", path, accelerator="cpu")
    with torch.no_grad():
        expected = model(InputTransform(InputFormat(MEAN, STD))(pixels)).softmax(1)[0].sort(descending=True)
    assert found.classes == tuple(FACTS["classes"][place] for place in expected.indices.tolist())
    assert found.probabilities == pytest.approx(expected.values.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("resnet8", {}, "model=resnet8: the size, mean and std of its images are not known; give the folder of a fin"),
        ("tests.conftest:tiny_model", {}, "model=tests.conftest:tiny_model: the size, mean and std of its images are"),
        ("timm:test_resnet", {}, "model=timm:test_resnet would have random weights: give checkpoint=FILE, pretrained="),
        ("timm:test_resnet", {"checkpoint": "gone.pth"}, "checkpoint=gone.pth: there is no such file"),
        ("timm:test_resnet", {"checkpoint": "FILE", "pretrained": True}, "both name weights; give one"),
        ("timm:test_resnet", {"checkpoint": "FILE", "class_names": "names.txt"}, "class_names has 2 names, and model="),
        ("timm:test_resnet", {"checkpoint": "FILE", "class_names": "gone.txt"}, "class_names=.*gone.txt cannot be re"),
        ("gone.onnx", {}, r"model=.*gone\.onnx: there is no such file"),
        ("other.onnx", {}, r"model=.*other\.onnx: stillroom export did not write this file, so that the mean and std"),
        ("other.onnx", {"checkpoint": "FILE"}, r"model=.*other\.onnx has weights of its own: leave out checkpoint"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path, model, settings, message):
    _, file = weights_of(tmp_path, 5)
    write_onnx(tmp_path / "other.onnx")
    (tmp_path / "names.txt").write_text("ant\nbee\n")
    places = {name: str(tmp_path / name) for name in ("gone.onnx", "other.onnx", "names.txt", "gone.txt")}
    places["FILE"] = file
    settings = {name: places.get(value, value) for name, value in settings.items()}
    with pytest.raises(InputError, match=message):
        open_classifier(places.get(model, model), CPU, **settings)
