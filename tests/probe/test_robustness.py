from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillroom.errors import InputError
from stillroom.probe.corrupted_sets import even_choice, in_memory
from stillroom.probe.corruptions import CORRUPTIONS, corrupted
from stillroom.probe.robustness import Robustness
from tests.probe.conftest import subject_of


def measured(subject) -> dict:
    return {one.on: one.measure() for one in Robustness().measurements(subject)}


@pytest.fixture(scope="module")
def found(trained_runs: Path) -> dict:
    return measured(subject_of(trained_runs, images=12, severities=["1", "4"]))["C-style"]


def test_accuracy_and_agreement_are_those_of_the_networks_on_corrupted_images(trained_runs, found):
    student, teacher = (subject_of(trained_runs, role=role) for role in ("student", "teacher"))
    clean = in_memory(student.data.val, even_choice(student.data.val.labels, 12))
    images = corrupted(clean.images, clean.ids, "snow", 4)
    changed = replace(clean, images=images, digests=None)
    own, taught = (subject.logits(changed).argmax(1) for subject in (student, teacher))
    assert found["accuracy"]["snow"][1] == pytest.approx(100 * float((own == clean.labels).float().mean()))
    assert found["agreement"]["snow"][1] == pytest.approx(100 * float((own == taught).float().mean()))
    assert found["clean"] == pytest.approx(
        100 * float((student.logits(clean).argmax(1) == clean.labels).float().mean())
    )


def test_means_are_over_all_corruptions_and_severities(found):
    assert set(found["accuracy"]) == set(CORRUPTIONS)
    assert (found["images"], found["severities"]) == (12, [1, 4])
    for name, mean in (("accuracy", "mean"), ("agreement", "mean_agreement"), ("kl", "mean_kl")):
        assert found[mean] == pytest.approx(np.mean(list(found[name].values())))
    assert found["mean_kl"] > 0


def test_a_teacher_and_a_student_without_one_have_no_agreement(trained_runs):
    options = {"images": 4, "severities": ["1"]}
    for subject in (
        subject_of(trained_runs, role="teacher", **options), subject_of(trained_runs, teacher=False, **options),
    ):  # fmt: skip
        assert measured(subject)["C-style"]["mean_agreement"] is None


def test_official_files_are_measured_beside_our_own(trained_runs, tmp_path):
    subject = subject_of(trained_runs, images=4, severities=["2"])
    val = subject.data.val
    folder = tmp_path / "MINE-C"
    folder.mkdir()
    rows = val.pixels(torch.arange(len(val))).permute(0, 2, 3, 1).numpy()
    np.save(folder / "fog.npy", np.tile(rows, (5, 1, 1, 1)))
    np.save(folder / "labels.npy", np.tile(val.labels.numpy(), 5))
    asked = subject_of(trained_runs, images=0, severities=["2"], corrupted=[str(folder)])
    official = next(one for one in Robustness().measurements(asked) if one.on == "MINE-C").measure()
    assert official["accuracy"] == {"fog": [official["clean"]]}  # these images are not corrupted


def test_settings_that_decide_the_numbers_are_recorded(trained_runs):
    def settings(**options) -> list:
        return [one.settings for one in Robustness().measurements(subject_of(trained_runs, **options))]

    usual = settings(images=4)
    assert settings(images=4) == usual
    for other in (
        {"images": 5},
        {"images": 4, "severities": ["3"]},
        {"images": 4, "seed": 1},
        {"images": 4, "teacher": False},
    ):
        assert settings(**other) != usual


def test_a_folder_without_corrupted_images_is_refused(trained_runs, tmp_path):
    with pytest.raises(InputError, match=r"holds no corrupted images; give a folder with labels\.npy"):
        Robustness().check(subject_of(trained_runs, corrupted=[str(tmp_path)]).options)
