from __future__ import annotations

import json
import shutil
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from stillroom.errors import InputError
from stillroom.export import export, export_folder, pipeline
from stillroom.restore import dataset_of, student_of
from tests.export.conftest import STUDENTS, silent, validation_images


@pytest.mark.parametrize("student", STUDENTS)
def test_the_graphs_take_any_batch_and_agree_with_pytorch(made, student):
    run, result = made(student)
    model = student_of(run, dataset_of(run))
    for batch, (name, tolerance) in product((1, 3, 64), (("model.onnx", 1e-4), ("model-int8.onnx", 0.2))):
        images = validation_images(run, batch)
        with torch.no_grad():
            expected = model(images)
        session = onnxruntime.InferenceSession(str(result.folder / name))
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        assert logits.shape == (batch, 4)
        assert np.abs(logits - expected.numpy()).max() <= tolerance * max(1, float(expected.abs().max()))


def test_the_graph_holds_its_classes_and_normalisation_and_no_paths(made):
    run, result = made("resnet8")
    model = onnx.load(result.folder / "model.onnx")
    facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["stillroom"])
    config = json.loads((result.folder / "config.json").read_text())
    assert facts["classes"] == config["classes"] == run.config()["classes"]
    assert (facts["mean"], facts["std"]) == (run.config()["mean"], run.config()["std"])
    for file in result.files:
        assert b"site-packages" not in file.read_bytes()
        assert str(run.path.parent).encode() not in file.read_bytes()


@pytest.mark.parametrize("moment", ["the card", "the third file"])
def test_a_failure_on_the_way_leaves_nothing(made, monkeypatch, tmp_path, moment):
    run, _ = made("resnet8")

    def killed(*_args):
        raise KeyboardInterrupt

    if moment == "the card":
        monkeypatch.setattr(pipeline, "write_card", killed)
    else:
        copy, left = shutil.copyfile, [2]

        def third(*args):
            left[0] -= 1
            return copy(*args) if left[0] >= 0 else killed()

        monkeypatch.setattr(export_folder.shutil, "copyfile", third)
    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_differs_from_pytorch_is_an_error_and_leaves_nothing(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")
    right = pipeline.session_logits
    monkeypatch.setattr(pipeline, "session_logits", lambda *args: right(*args) + 0.1)
    with pytest.raises(InputError, match=r"differs from PyTorch: logits differ by up to 0\.1"):
        export(run, tmp_path / "out", latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []
