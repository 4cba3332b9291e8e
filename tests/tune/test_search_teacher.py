"""Which teacher the trials have, and what it has seen of the images that judge them; all in this process."""

from __future__ import annotations

import pytest

from stillroom import train
from stillroom.cli import main
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import seen_by
from stillroom.report.tuning_file import read_tuning
from stillroom.restore import dataset_of
from tests.conftest import colour_folder

MODEL = "stillroom.models.demo_nets:small"
COMMON = {"batch_size": 16, "accelerator": "cpu", "precision": "32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=30, side=8)


@pytest.fixture(scope="module")
def teachers(photos, tmp_path_factory):
    """Runs on all training images, and without a quarter of them."""
    runs = tmp_path_factory.mktemp("runs")
    for name, hold_out in (("all", None), ("part", 0.25)):
        train(model=MODEL, data=photos, epochs=1, name=name, runs=str(runs), hold_out=hold_out, **COMMON)
    return runs


def tuned(photos, runs, *more):
    """The exit status of a tuning of one method with one trial, and its record."""
    pytest.importorskip("optuna")
    given = [
        "tune", "--student", MODEL, "--methods", "kd", "--trials", "1", "--epochs", "1", "--seeds", "1",
        "--data", str(photos), "--hold_out", "0.2", "--runs", str(runs), "--name", "c", "--page", "false",
        "--jobs", "1",
    ]  # fmt: skip
    given += [word for name, value in COMMON.items() for word in (f"--{name}", str(value))]
    status = main([*given, *more])
    return status, read_tuning(runs / "c")


def judged(tuning):
    """The images that the trials are judged by, by hash."""
    return {*dataset_of(RunFolder(next(tuning.folder.glob("trials/kd-*")))).val.content().tolist()}


def teacher_of(run, tmp_path):
    return RunFolder(tmp_path / RunFolder(run).config()["teacher"])


def test_a_teacher_by_name_is_trained_without_the_held_out_images_for_the_trials_and_on_all_for_the_rest(
    photos, tmp_path
):
    status, tuning = tuned(photos, tmp_path, "--teacher", MODEL)
    assert (status, tuning.search_teacher, tuning.seen_by_teacher) == (0, "trials/teacher", 0)
    held_out = judged(tuning)
    assert len(held_out) == tuning.held_out_images > 0
    trial, final = (next(tuning.folder.glob(f"{place}/summary.json")).parent for place in ("trials/kd-*", "*-kd-s1"))
    assert not held_out & {*seen_by(teacher_of(trial, tmp_path)).tolist()}
    assert held_out <= {*seen_by(teacher_of(final, tmp_path)).tolist()}
    assert tuned(photos, tmp_path, "--teacher", MODEL) == (0, tuning)
    assert tuned(photos, tmp_path, "--teacher", MODEL, "--search_teacher", "same")[0] == 2


@pytest.mark.parametrize("more", [("--teacher", MODEL, "--search_teacher", "same"), ("--teacher", "all")])
def test_a_teacher_that_knows_the_held_out_images_is_named_as_such(photos, teachers, tmp_path, capsys, more):
    more = [str(teachers / word) if word == "all" else word for word in more]
    status, tuning = tuned(photos, tmp_path, *more)
    assert (status, tuning.search_teacher) == (0, "")
    assert tuning.seen_by_teacher == tuning.held_out_images == len(judged(tuning))
    output = capsys.readouterr()
    said = " ".join((output.out + output.err).split())
    of_teacher, of_count = tuning.cautions
    assert f"note: {of_teacher.reason} Give search_teacher=, a run that was trained with hold_out=0.2" in said
    assert f"note: {of_count.reason} A larger hold_out= gives more" in said
    assert f"After 1 epoch. {of_teacher.reason}" in said


def test_the_trials_learn_from_the_run_that_is_given_for_them(photos, teachers, tmp_path, capsys):
    more = ("--teacher", str(teachers / "all"), "--search_teacher", str(teachers / "part"))
    status, tuning = tuned(photos, tmp_path, *more)
    assert (status, tuning.seen_by_teacher) == (0, 0)  # a larger fraction of the same images was held out there
    trial = next(tuning.folder.glob("trials/kd-*"))
    assert RunFolder(trial).config()["teacher"] == str(teachers / "part")
    assert RunFolder(next(tuning.folder.glob("*-kd-s1"))).config()["teacher"] == str(teachers / "all")
    (caution,) = tuning.cautions
    assert "standard error" in caution.reason
    assert "The teacher of the trials" not in capsys.readouterr().err


def test_a_teacher_of_the_trials_that_is_no_run_or_has_other_images_is_refused(photos, teachers, tmp_path, capsys):
    assert tuned(photos, tmp_path, "--teacher", MODEL, "--search_teacher", "resnet8")[0] == 2
    assert "search_teacher=resnet8: give the folder of a finished run" in capsys.readouterr().err
    train(model=MODEL, data=photos, epochs=1, name="large", runs=str(tmp_path), image_size=16, **COMMON)
    more = ("--teacher", str(teachers / "all"), "--search_teacher", str(tmp_path / "large"))
    assert tuned(photos, tmp_path, *more)[0] == 2
    assert "give image_size=" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
