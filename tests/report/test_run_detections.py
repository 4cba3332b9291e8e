"""The stored detections of runs."""

from __future__ import annotations

from stillroom.engine.predictions import teacher_path
from stillroom.report.run_detections import class_scores, detections_of, teacher_detections_of
from tests.report.box_runs import IMAGES, found_in, made_box_run, made_objects


def test_a_run_and_its_teacher_have_their_own_detections_of_the_same_images(tmp_path):
    run = made_box_run(tmp_path, "a", teacher_weights="0123")
    mine, teacher = detections_of(run), teacher_detections_of(run)
    assert len(mine.objects) == len(teacher.objects) == IMAGES
    assert sum(map(len, teacher.found)) != sum(map(len, mine.found)) or any(
        bool((one.boxes != other.boxes).any()) for one, other in zip(mine.found, teacher.found, strict=True)
    )
    teacher_path(run).unlink()
    assert teacher_detections_of(run) is None
    assert teacher_detections_of(made_box_run(tmp_path, "b")) is None, "it had no teacher"


def test_the_ap_of_a_class_rises_with_the_detector(tmp_path):
    run = made_box_run(tmp_path, "a")
    stored = detections_of(run)
    weak, strong = (
        class_scores(run, type(stored)(found_in(made_objects(), quality, 0), stored.objects, stored.ids))
        for quality in (0.2, 1.0)
    )
    assert all(low < high for low, high in zip(weak, strong, strict=True))
