"""The comparison of two forms of a detector; the graph itself is tested with the export."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.boxes import Detections
from stillroom.errors import InputError
from stillroom.export.detector_graph import WholeDetector, check_detections, compare_detections, write_detector_graph
from tests.export.detectors import IMAGE_SIZE, MAX_SIZE, busy_detector, draw_pixels
from tests.tasks.boxes_of import found_of

ONE = found_of((0, 0.9, 0, 0, 20, 20), (1, 0.8, 50, 50, 90, 90))


def test_counterparts_are_found_in_any_order():
    other = found_of((1, 0.8005, 50, 50, 90, 90.0625), (0, 0.8995, 0, 0, 20, 20))
    parity = compare_detections([ONE, found_of()], [other, found_of()])
    assert (parity.images, parity.detections, parity.unmatched) == (2, 2, 0)
    assert parity.box_difference == 0.0625
    assert parity.score_difference == pytest.approx(5e-4, rel=1e-3)


@pytest.mark.parametrize(
    ("other", "unmatched"),
    [
        (found_of((0, 0.9, 0, 0, 20, 20)), 1),
        (found_of((0, 0.9, 0, 0, 20, 20), (2, 0.8, 50, 50, 90, 90)), 2),
        (found_of((0, 0.9, 0, 0, 20, 20), (1, 0.7, 50, 50, 90, 90)), 2),
        (found_of((0, 0.9, 0, 0, 20, 21), (1, 0.8, 50, 50, 90, 90)), 2),
        (found_of((0, 0.9, 0, 0, 20, 20), (0, 0.9, 0, 0, 20, 20), (1, 0.8, 50, 50, 90, 90)), 1),
        (found_of(), 2),
    ],
    ids=["one less", "class", "score", "edge", "twice", "nothing"],
)
def test_a_detection_without_a_counterpart_is_refused(other, unmatched):
    assert compare_detections([ONE], [other]).unmatched == unmatched
    with pytest.raises(InputError, match=rf"{unmatched} detections \(2 are PyTorch's\) have no counterpart"):
        check_detections([ONE], [other])


def test_one_in_a_hundred_may_be_at_a_threshold():
    many = Detections(torch.rand(100, 4), torch.linspace(1, 0.5, 100), torch.zeros(100, dtype=torch.int64))
    fewer = Detections(many.boxes[:99], many.scores[:99], many.labels[:99])
    assert check_detections([many], [fewer]).unmatched == 1


def test_a_detector_that_finds_nothing_cannot_be_checked():
    with pytest.raises(InputError, match="finds nothing in 1 images"):
        check_detections([found_of()], [found_of()])


def test_a_detector_finds_the_same_in_an_image_that_has_its_size():
    model = busy_detector()
    (image,) = draw_pixels(((64, 96),))
    whole = WholeDetector(model, IMAGE_SIZE, MAX_SIZE)
    model.transform.min_size, model.transform.max_size = (IMAGE_SIZE,), MAX_SIZE
    with torch.inference_mode():
        boxes, scores, labels = whole(image[None])
        wanted = model([image])[0]
    assert len(scores) > 10
    assert torch.equal(boxes, wanted["boxes"])
    assert torch.equal(scores, wanted["scores"])
    assert torch.equal(labels + 1, wanted["labels"])


def test_a_model_that_is_no_detector_or_cannot_be_traced_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="Linear is not a two-stage detector"):
        WholeDetector(nn.Linear(2, 2), IMAGE_SIZE, MAX_SIZE)
    whole = WholeDetector(busy_detector(), IMAGE_SIZE, MAX_SIZE)

    def refuse(*_, **__):
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(
        InputError, match=r"FasterRCNN cannot be written as ONNX \(RuntimeError: unsupported operator\)"
    ):
        write_detector_graph(whole, draw_pixels()[0], tmp_path / "model.onnx", {})
