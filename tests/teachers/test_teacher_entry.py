from __future__ import annotations

import pytest

from stillroom.errors import InputError
from stillroom.settings import make_group
from stillroom.teachers.teacher_entry import TeacherEntry


def test_a_teacher_alone_has_the_defaults():
    entry = make_group(TeacherEntry, {"teacher": "runs/a"})
    assert (entry.weight, entry.output, entry.class_map, entry.unmapped) == (1.0, "logits", "auto", "refuse")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "teacher is missing"),
        ({"weight": 0.0}, "weight=0.0: give above 0"),
        ({"image_size": 4}, "image_size=4: give at least 8 pixels"),
        ({"output": "logit"}, "output='logit': give logits or .* or labels or embedding; did you mean logits"),
        ({"unmapped": "drop"}, "unmapped='drop': give refuse or lowest"),
    ],
)
def test_values_outside_the_range_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        make_group(TeacherEntry, ({"teacher": "a"} if given else {}) | given)
