"""Detection as a task. Whole runs: tests/test_detection_runs.py."""

from __future__ import annotations

import pytest
import torch

from stillroom.boxes import Detections
from stillroom.models.macs import count_macs
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.tasks.detection import Detection, in_original
from stillroom.tasks.detections_file import read_detections
from tests.boxed_data import boxed_data
from tests.data.boxed_images import image_boxes
from tests.tasks.tiny_detector import tiny_detector

ALONE = Group(Machine(torch.device("cpu"), "32"))


def perfect(source):
    return tuple(Detections(one.boxes, torch.ones(len(one)), one.labels) for one in source.objects)


@pytest.fixture(scope="module")
def data():
    return boxed_data()


def test_the_annotated_boxes_themselves_have_full_average_precision(data, tmp_path):
    task, found = Detection(2), perfect(data.val)
    scores = task.evaluate(found, data.val, ALONE)
    assert (scores["ap"], scores["count"]) == (100.0, 6)
    assert task.row(None, scores, None)["val_ap50"] == 100.0
    path = tmp_path / "detections.safetensors"
    path.write_bytes(task.file_content(data.val, task.gathered(found, 6, ALONE)))
    config = {"val_images": 6, "classes": ["red", "blue"]}
    assert task.is_readable(path, config)
    assert not task.is_readable(path, config | {"val_images": 5})
    assert torch.equal(read_detections(path, 6, 2).found[1].boxes, data.val.objects[1].boxes)


def test_labels_of_regions_are_torchvisions_and_each_image_samples_alone(data):
    task, model = Detection(2), tiny_detector(classes=2).train()
    loader = data.train.loader(batch_size=4, input_format=data.input_format, shuffle=False)
    batch = next(loader.epoch(0))
    output = task.student_output(model, None, batch, (0, 1))
    target = task.target(batch, output)
    assert output.logits.shape == (len(target), 3)
    first = {1 + int(label) for one in batch.targets for label in one.labels}
    assert set(target.tolist()) == {0} | first
    again = task.student_output(model, None, batch, (0, 2))
    assert not torch.equal(torch.cat(again.parts["proposals"]), torch.cat(output.parts["proposals"]))


def test_boxes_are_moved_back_to_the_original_image():
    original = image_boxes([[0, 0, 10, 10]], [0], (100, 200))
    resized = image_boxes([[0, 0, 5, 5]], [0], (50, 100))
    target = type(resized)(resized.boxes, resized.labels, resized.crowd, resized.size, original)
    found = in_original(
        Detections(torch.tensor([[10.0, 5.0, 20.0, 25.0]]), torch.ones(1), torch.zeros(1).long()), target
    )
    assert found.boxes.tolist() == [[20.0, 10.0, 40.0, 50.0]]


def test_operations_are_counted_at_the_size_of_the_images_and_not_at_the_models_own():
    model = tiny_detector(classes=2)
    model.rpn._pre_nms_top_n = model.rpn._post_nms_top_n = {"training": 1, "testing": 1}  # one proposal for any image
    small, large = (count_macs(model, torch.zeros(1, 3, side, side), Detection(2).forward) for side in (32, 64))
    assert large > 3 * small


def test_a_detector_that_finds_nothing_is_warned_of():
    task = Detection(2)
    assert "AP50 ended at 0.20" in task.warning([{"val_ap50": 0.2}], 2, 0.02)
    assert not task.warning([{"val_ap50": 30.0}], 2, 0.02)
    assert "finds hardly anything" in task.teacher_notes({"ap": 0.0, "ap50": 0.1, "count": 6}, 2)[1]
