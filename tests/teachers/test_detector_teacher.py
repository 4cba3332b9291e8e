"""A detector that teaches."""

from __future__ import annotations

import torch

from stillroom.input_format import InputFormat
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.tasks.detection import Detection
from stillroom.teachers.detector_teacher import DetectorTeacher
from tests.boxed_data import boxed_data
from tests.tasks.tiny_detector import tiny_detector


def made(data, mean=0.5):
    seen = InputFormat((mean,) * 3, (0.25,) * 3)
    return DetectorTeacher(
        tiny_detector(classes=2), input_format=seen, shares_input=mean == 0.5, class_count=2, classes=("red", "blue")
    )


def test_its_region_head_runs_on_the_students_proposals_without_gradients():
    data = boxed_data()
    batch = next(data.train.loader(batch_size=3, input_format=data.input_format, shuffle=False).epoch(0))
    task, teacher = Detection(2), made(data)
    student = task.student_output(tiny_detector(classes=2).train(), None, batch, (0, 1))
    output = task.on_same_rows(teacher.predict(batch), student)
    assert output.logits.shape == student.logits.shape
    assert not output.logits.requires_grad
    assert [level.shape for level in output.parts["maps"]] == [level.shape for level in student.parts["maps"]]


def test_the_fingerprint_changes_with_the_normalisation_and_detections_are_scored():
    data = boxed_data()
    teacher = made(data)
    assert teacher.fingerprint(data) == made(data).fingerprint(data)
    assert teacher.fingerprint(data) != made(data, mean=0.3).fingerprint(data)
    loader = data.val.loader(batch_size=4, input_format=data.input_format, shuffle=False)
    found = Detection(2).predict_teacher(teacher, loader.epoch(0))
    scores = Detection(2).evaluate(found, data.val, Group(Machine(torch.device("cpu"), "32")))
    assert scores["count"] == 6
    assert 0 <= scores["ap"] <= 100
