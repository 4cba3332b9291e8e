"""A run of a detector as files to deploy."""

from __future__ import annotations

import contextlib
import io
import json
import re

import pytest
import torch
from PIL import Image

import stillroom
from stillroom.errors import InputError
from stillroom.export import export, latency, load
from stillroom.export.detector_graph import WholeDetector, torch_detections
from stillroom.export.detector_pipeline import OriginalImages
from stillroom.image_prediction import predict_images
from stillroom.restore import dataset_of, student_of

MODEL = "stillroom.models.demo_detectors:small_detector"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run on five scenes, its export, and what was said."""
    folder, said = tmp_path_factory.mktemp("runs"), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(folder / "cache"))
        patch.setattr(latency, "SECONDS", 0.01)
        patch.setattr(latency, "ROUNDS", (1, 1))
        common = {"data": "scenes:10", "epochs": 1, "batch_size": 5, "accelerator": "cpu", "precision": "32",
                  "workers": 0, "image_size": 64, "runs": str(folder)}  # fmt: skip
        stillroom.train(model=MODEL, name="teacher", **common)
        _, run = stillroom.distill(
            teacher=str(folder / "teacher"), student=MODEL, method="kd", name="student", trust=True, **common
        )
        result = export(run, folder / "out", int8=False, trust=True, say=said.append)
        yield run, result, said, dataset_of(run)


def test_a_run_becomes_weights_graphs_speed_and_a_card(exported):
    run, result, said, _ = exported
    names = {file.name for file in result.files}
    assert names >= {"config.json", "model.safetensors", "model.onnx", "latency.json", "README.md"}
    config = json.loads((result.folder / "config.json").read_text())
    assert config["task"] == "detection"
    assert (config["input"]["image_size"], config["input"]["max_size"]) == (64, 106)
    assert result.parity.images == 2
    assert {row.model for row in result.timings} == {"student", "teacher"}
    card = (result.folder / "README.md").read_text()
    assert f"| PyTorch | {result.scores['PyTorch'].ap:.2f} |" in card
    assert f"AP {run.summary()['last']['val_ap']:.2f} % on all validation images" in card
    assert any("model.onnx agrees with PyTorch" in line for line in said)


def test_the_snippets_of_the_card_print_the_same_objects(exported):
    _, result, _, data = exported
    card = (result.folder / "README.md").read_text()
    pixels = (OriginalImages(data.val, 1)[0] * 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(result.folder / "image.png")
    printed = []
    with contextlib.chdir(result.folder):
        for snippet in re.findall(r"```python\n(.*?)```", card, re.DOTALL):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(snippet, {})
            printed.append([line.split()[0] for line in out.getvalue().splitlines()])
    assert len(printed) == 2
    assert printed[0]
    assert printed[0] == printed[1]


def test_an_exported_detector_is_loaded_and_finds_what_the_run_s_student_finds(exported):
    run, result, _, data = exported
    model, config = load(result.folder, trust=True)
    assert config["classes"] == list(data.val.classes)
    images = OriginalImages(data.val, 1)
    found, own = (torch_detections(WholeDetector(each, 64, 106), images)[0] for each in (model, student_of(run, data)))
    assert len(found) > 0
    assert torch.equal(found.boxes, own.boxes)
    assert torch.equal(found.labels, own.labels)


def test_predict_says_that_a_detector_has_no_class_for_an_image(exported, tmp_path):
    run, result, _, _ = exported
    Image.new("RGB", (64, 64)).save(tmp_path / "image.png")
    for model, words in (
        (run.path, "is a detector, and classes of whole images are predicted here; the README.md"),
        (result.folder, "is a detector, and classes of whole images are predicted here; the README.md"),
        (result.folder / "model.onnx", "model.onnx is a detector, which gives no logits"),
    ):
        with pytest.raises(InputError, match=words):
            predict_images(model, tmp_path / "image.png", accelerator="cpu")
