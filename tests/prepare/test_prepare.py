from __future__ import annotations

import pytest

from stillroom.errors import InputError
from tests.prepare.test_run_identity import Opening


@pytest.fixture
def opening(tmp_path, tiny_data):
    return Opening(tmp_path / "runs", tiny_data)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"method": "kdd"}, "no loss is called 'kdd'"),
        ({"teacher": "resnet999"}, "resnet999"),
        ({"mean": [0.5], "std": [0.2]}, "the images have 3 channels"),
        ({"method": "ldrld(depth=5)"}, "depth"),
    ],
)
def test_a_mistake_leaves_no_run_folder(opening, settings, match):
    with pytest.raises(InputError, match=match):
        opening(**settings)
    assert not opening.folder.exists()


def test_the_job_has_what_the_run_folder_records(opening, tiny_data):
    job = opening(bn_momentum=0.3)
    config = job.run.config()
    assert (config["train_images"], config["val_images"], config["classes"]) == (80, 40, list(tiny_data.train.classes))
    assert job.student[1].momentum == config["bn_momentum"] == 0.3
    assert not job.run.finished


def test_a_bank_is_named_after_teacher_and_images_and_not_after_the_student(opening, tiny_data):
    assert opening(name="a").teacher.members[0].bank_key is None
    bank = {"bank": str(opening.folder / "bank")}
    first = opening(name="b", **bank).teacher.members[0].bank_key
    assert opening(name="c", method="dkd", **bank).teacher.members[0].bank_key.digest == first.digest
    assert opening(name="d", seed=1, **bank).teacher.members[0].bank_key.digest != first.digest
    assert opening(name="e", method="at", **bank).teacher.members[0].bank_key is None
    assert any("bank= is not used: at reads more of the teacher than its logits" in line for line in opening.said)
