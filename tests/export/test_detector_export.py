"""A detector as files: they find the same boxes in images of any size and content."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from stillroom.boxes import ImageBoxes
from stillroom.errors import InputError
from stillroom.export import detector_export, latency
from stillroom.export.detector_export import export_detector
from stillroom.export.detector_graph import WholeDetector, session_detections, torch_detections
from stillroom.models.onnx_file import onnx_metadata, open_session
from tests.export.detectors import CLASSES, IMAGE_SIZE, MAX_SIZE, busy_detector, draw_pixels

SHAPE = {"image_size": IMAGE_SIZE, "max_size": MAX_SIZE, "classes": CLASSES, "facts": {"model": "small"}}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A detector with its export: folder, result, the lines that were said, and the annotated objects."""
    folder = tmp_path_factory.mktemp("export")
    model, images, said = busy_detector(), draw_pixels(), []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = torch_detections(WholeDetector(model, IMAGE_SIZE, MAX_SIZE), images)
    objects = [
        ImageBoxes(each.boxes[:5], each.labels[:5], torch.zeros(5, dtype=torch.bool), tuple(image.shape[1:]))
        for each, image in zip(found, images, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "SECONDS", 0.01)
        patch.setattr(latency, "ROUNDS", (1, 1))
        result = export_detector(model, folder, images, objects=objects, say=said.append, **SHAPE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.roi_heads.box_roi_pool.scales is None
    assert model.transform.min_size != (IMAGE_SIZE,)
    return model, folder, result, said


def test_the_graph_finds_the_boxes_of_pytorch(whole):
    _, _, result, said = whole
    parity = result.parity
    assert parity.images == 4
    assert parity.detections > 30
    assert parity.box_difference < 0.02
    assert parity.score_difference < 1e-4
    assert parity.unmatched <= 2
    assert said[0].startswith("model.onnx agrees with PyTorch on 4 images")


def test_average_precision_of_every_form_is_that_of_its_detections(whole):
    _, _, result, _ = whole
    assert list(result.scores) == ["PyTorch", "onnxruntime", "onnxruntime int8"]
    assert result.scores["onnxruntime"].ap == pytest.approx(result.scores["PyTorch"].ap, abs=2)
    assert result.scores["PyTorch"].ap50 > 80
    assert result.scores["onnxruntime int8"].ap50 > 50
    assert result.missing == ""
    assert result.calibrated == 4


def test_the_int8_graph_is_smaller(whole):
    _, folder, _, _ = whole
    assert (folder / "model-int8.onnx").stat().st_size < 0.7 * (folder / "model.onnx").stat().st_size


def test_every_form_is_timed_for_one_image(whole):
    _, folder, result, _ = whole
    assert [(row.model, row.runtime, row.batch) for row in result.timings] == [
        ("student", "PyTorch", 1), ("student", "onnxruntime", 1), ("student", "onnxruntime int8", 1),
    ]  # fmt: skip
    record = json.loads((folder / "latency.json").read_text())
    assert [row["median_ms"] for row in record["results"]] == [row.median_ms for row in result.timings]


def test_weights_and_facts_are_in_the_files(whole):
    model, folder, _, _ = whole
    weights = load_file(folder / "model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    facts = json.loads(onnx_metadata(folder / "model.onnx")["stillroom"])
    assert facts == {"model": "small", "classes": list(CLASSES), "image_size": IMAGE_SIZE, "max_size": MAX_SIZE}
    assert b".py" not in (folder / "model.onnx").read_bytes()  # no path of this machine


def test_the_graph_finds_nothing_where_pytorch_finds_nothing(whole):
    model, folder, _, _ = whole
    grey = [torch.full((3, 70, 90), 0.45)]
    (ours,) = torch_detections(WholeDetector(model, IMAGE_SIZE, MAX_SIZE), grey)
    (theirs,) = session_detections(open_session(folder / "model.onnx", 1), grey)
    assert [tuple(part.shape) for part in (theirs.boxes, theirs.scores, theirs.labels)] == [(0, 4), (0,), (0,)]
    assert len(ours) == 0


def test_a_graph_that_cannot_be_quantised_is_missing_with_a_sentence(tmp_path, monkeypatch):
    def refuse(*_):
        raise InputError("onnxruntime cannot quantise this model (ValueError: no); give int8=False (--no_int8)")

    monkeypatch.setattr(detector_export, "write_detector_int8", refuse)
    monkeypatch.setattr(detector_export, "write_detector_graph", lambda *_: (tmp_path / "model.onnx").touch())
    monkeypatch.setattr(detector_export, "open_session", lambda *_: None)
    model = busy_detector()
    detector = WholeDetector(model, IMAGE_SIZE, MAX_SIZE)
    monkeypatch.setattr(detector_export, "session_detections", lambda _, images: torch_detections(detector, images))
    said = []
    found = export_detector(model, tmp_path, draw_pixels()[:1], latency=False, say=said.append, **SHAPE)
    assert found.missing == said[1]
    assert said[1].startswith("there is no int8 graph: onnxruntime cannot quantise this model")
    assert not (tmp_path / "model-int8.onnx").exists()


def test_without_onnx_there_are_the_weights_alone(tmp_path):
    found = export_detector(busy_detector(), tmp_path, draw_pixels()[:1], onnx=False, latency=False, **SHAPE)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert found.parity is None
