"""Other sets: at the size of the run's images, with labels that tell them apart."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from stillroom.errors import InputError
from stillroom.probe.other_sets import load_other, set_labels
from tests.conftest import colour_folder
from tests.probe.conftest import subject_of


def test_images_are_resized_to_those_of_the_run(student, tmp_path):
    data = load_other("on", str(colour_folder(tmp_path, 12, 20)), student)
    assert data.input_shape == student.data.input_shape == (3, 8, 8)
    assert student.embedding(data.val).shape[0] == len(data.val)


def test_a_teacher_sees_the_same_images(trained_runs):
    teacher = subject_of(trained_runs, role="teacher")
    data = load_other("on", str(trained_runs.parent / "other"), teacher)
    assert torch.equal(data.val.labels, load_other("on", str(trained_runs.parent / "other"), teacher).val.labels)
    assert teacher.logits(data.val).shape == (28, 4)


def test_a_folder_is_named_by_its_last_part_and_two_of_one_name_by_their_paths():
    assert set_labels("on", ["cifar10", "a/photos", "b/photos"]) == {
        "cifar10": "cifar10", "photos": "a/photos", "b/photos": "b/photos",
    }  # fmt: skip
    with pytest.raises(InputError, match="on=a/photos is given twice"):
        set_labels("on", ["a/photos", "a/photos", "a/photos"])


def test_sets_that_do_not_fit_are_refused_by_name(student, tmp_path):
    with pytest.raises(InputError, match="ood=scenes: its images have boxes"):
        set_labels("ood", ["scenes"])
    with pytest.raises(InputError, match="on=nowhere: data is 'nowhere', which is neither a folder"):
        load_other("on", "nowhere", student)
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "one" / "a.png")
    with pytest.raises(InputError, match=r"on=.*"):
        load_other("on", str(tmp_path), student)
