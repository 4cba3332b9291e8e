"""Chosen images of detectors."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from stillroom.boxes import Detections
from stillroom.report.aggregate import read_comparison
from stillroom.report.views import box_images as module
from stillroom.report.views.box_images import box_images_of
from stillroom.tasks.detections_file import StoredDetections, detections_content
from tests.report.box_runs import IMAGES, made_box_run, made_box_runs, made_objects


@pytest.fixture(autouse=True)
def pixels(monkeypatch):
    """Previews of the made-up images: 48 pixels wide, 32 high, at the upper left of a square."""
    monkeypatch.setattr(module, "val_pixels", lambda _, places: torch.zeros(len(places), 3, 48, 48, dtype=torch.uint8))


def keep(run, found):
    run.predictions.write_bytes(
        detections_content(StoredDetections(tuple(found), made_objects(), torch.arange(IMAGES)))
    )


def perfect(image, score=0.9):
    return Detections(image.boxes, torch.full((len(image),), score), image.labels)


def empty():
    return Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))


def test_images_are_chosen_where_the_students_differ_most(tmp_path):
    made_box_runs(tmp_path, ("kd", "ldrld"), seeds=1)
    (pair,) = read_comparison([tmp_path]).pairs
    objects = made_objects()
    keep(pair.cells[0].run, [perfect(image) for image in objects])
    keep(pair.cells[1].run, [empty() if place in (2, 5) else perfect(image) for place, image in enumerate(objects)])
    found = box_images_of(pair, count=2)
    assert [one.place for one in found.images] == [2, 5]
    assert found.rule == "the 2 images of 10 in which the students differ most"
    panels = {panel.name: panel for panel in found.images[0].panels}
    assert list(panels) == ["annotation", "teacher", "kd", "ldrld"]
    assert panels["annotation"].caption == "3 objects"
    assert panels["kd"].caption == "3 of 3 objects found, 0 wrong detections"
    assert {box.kind for box in panels["kd"].boxes} == {"correct"}
    assert panels["ldrld"].caption == "0 of 3 objects found, 0 wrong detections"
    assert [box.kind for box in panels["ldrld"].boxes] == ["missed"] * 3


def test_the_image_is_cut_from_its_preview_and_boxes_are_in_its_own_pixels(tmp_path):
    run = made_box_run(tmp_path, "kd", teacher_weights="0123")
    keep(run, [perfect(image) for image in made_objects()])
    one = box_images_of(read_comparison([tmp_path]).pairs[0], count=1).images[0]
    picture = Image.open(io.BytesIO(base64.b64decode(one.image.partition(",")[2])))
    assert picture.size == (48, 32)
    assert (one.width, one.height) == (96, 64)
    left, top, right, _ = made_objects()[one.place].boxes[0].tolist()
    drawn = one.panels[0].boxes[0]
    assert (drawn.left, drawn.top, drawn.width) == pytest.approx((left, top, right - left), abs=0.11)


def test_weak_detections_are_not_drawn_and_wrong_ones_say_why(tmp_path):
    run = made_box_run(tmp_path, "ce", "ce")
    objects = made_objects()
    named = [Detections(one.boxes, torch.full((len(one),), 0.5), (one.labels + 1) % 3) for one in objects]
    keep(run, [named[0], *(perfect(image, 0.2) for image in objects[1:])])
    found = box_images_of(read_comparison([tmp_path]).pairs[0], count=2)
    assert found.rule == "the 2 images of 10 in which the student does worst"
    first, second = found.images
    assert first.panels[1].caption == "0 of 3 objects found, 3 wrong detections"
    assert any(box.note.endswith("wrong class, score 0.50") for box in first.panels[1].boxes)
    assert second.panels[1].caption == "0 of 3 objects found, 0 wrong detections"


def test_a_group_is_drawn_and_not_judged(tmp_path):
    made_box_run(tmp_path, "kd")
    found = box_images_of(read_comparison([tmp_path]).pairs[0], count=IMAGES)
    panel = found.images[-1].panels[0]
    assert (panel.caption, [box.kind for box in panel.boxes]) == ("0 objects", ["ignored"])
    assert "missed" not in {box.kind for box in found.images[-1].panels[1].boxes}
