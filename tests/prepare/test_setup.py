"""What a run is set up from."""

from __future__ import annotations

from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.set_up_detection import set_up_detection
from tests.boxed_data import boxed_data
from tests.prepare.test_set_up_detection import recipe
from tests.tasks.tiny_detector import tiny_detector


def test_the_setup_says_what_is_learned():
    made = set_up_detection(recipe("train", model="m"), Inputs(student=tiny_detector(classes=2)), boxed_data())
    assert (made.task.name, made.teacher, made.train_images) == ("detection", None, 12)
