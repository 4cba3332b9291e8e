import shutil
import warnings

import pytest
import torch
from PIL import Image

from stillroom import distill, evaluate, train
from stillroom.cli import main
from stillroom.compare.options import CompareOptions
from stillroom.compare.run import compare
from stillroom.data import load_data
from stillroom.engine.run_folder import RunFolder
from stillroom.engine.sample_hashes import NAME, seen_by
from stillroom.errors import InputError

MODEL = "stillroom.models.demo_nets:small"
COMMON = {"epochs": 1, "batch_size": 16, "precision": "32"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of two classes with 45 images each, no two alike."""
    folder = tmp_path_factory.mktemp("photos")
    generator = torch.Generator().manual_seed(0)
    for name in ("ant", "bee"):
        (folder / name).mkdir()
        for number in range(45):
            values = torch.randint(0, 256, (8, 8, 3), dtype=torch.uint8, generator=generator)
            Image.fromarray(values.numpy()).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def teacher(photos, tmp_path_factory):
    """A run with a tenth of the images held out."""
    runs = tmp_path_factory.mktemp("runs")
    return train(model=MODEL, data=photos, val_fraction=0.1, name="teacher", runs=str(runs), **COMMON).record


@pytest.fixture
def settings(photos, tmp_path):
    return {"student": MODEL, "data": photos, "method": "kd", "runs": str(tmp_path), **COMMON}


def contents(images):
    return set(images.content().tolist())


def leaked(photos, val_fraction):
    """How many images that a teacher with a tenth held out was trained on are validated on."""
    seen = contents(load_data(photos, val_fraction=0.1).train)
    return len(seen & contents(load_data(photos, val_fraction=val_fraction).val))


def test_a_run_records_its_images(photos, teacher):
    data = load_data(photos, val_fraction=0.1, image_size=16)
    assert set(seen_by(teacher).tolist()) == contents(data.train)
    assert (teacher.path / NAME).stat().st_size < 8 * 90 + 500


def test_validation_images_of_the_teacher_s_training_are_refused(photos, teacher, settings, tmp_path):
    count = leaked(photos, 0.4)
    assert count > 10
    line = rf"teacher=.*: {count} of the \d+ validation images .* trained on.*give val_fraction=0\.1, as it had, or"
    with pytest.raises(InputError, match=line):
        distill(teacher=str(teacher.path), val_fraction=0.4, **settings)
    assert not any(path.name != "moved" for path in tmp_path.iterdir())  # nothing was begun
    # Content decides: another size, the folder elsewhere, the files renamed.
    moved = shutil.copytree(photos, tmp_path / "moved" / "elsewhere")
    for file in moved.rglob("*.png"):
        file.rename(file.with_name("renamed" + file.name))
    other = settings | {"data": moved, "image_size": 16}
    with pytest.raises(InputError, match=f"{count} of the"):
        distill(teacher=str(teacher.path), val_fraction=0.4, **other)
    with pytest.raises(InputError, match=f"{count} of the"):
        distill(teacher=str(teacher.path), **settings | {"data": load_data(moved, val_fraction=0.4)})
    options = CompareOptions(teachers=str(teacher.path), students=MODEL, methods="kd", seeds=1, jobs=1, page=False)
    common = {"data": str(photos), "val_fraction": 0.4, "runs": str(tmp_path / "compared"), **COMMON}
    with pytest.raises(InputError, match=f"{count} of the"):
        compare(options, common)
    # A run that begins with weights is trained on what they were trained on.
    begun = {"model": str(teacher.path), "data": photos, "runs": str(tmp_path), "val_fraction": 0.4}
    with pytest.raises(InputError, match=rf"model=.*{count} of the"):
        train(**begun, **COMMON)


def test_a_smaller_fraction_and_a_resume_are_fine_and_what_was_seen_before_counts(photos, teacher, settings, tmp_path):
    student = distill(teacher=str(teacher.path), val_fraction=0.05, name="one", **settings).record
    assert distill(teacher=str(teacher.path), val_fraction=0.05, name="one", **settings).record == student
    narrow = {**settings, "per_class": 5, "val_fraction": 0.1}
    student = distill(teacher=str(teacher.path), name="two", **narrow).record
    own = contents(load_data(photos, per_class=5).train)
    assert set(seen_by(student).tolist()) > own  # the teacher's, too
    with pytest.raises(InputError, match=rf"teacher=.*two: {leaked(photos, 0.4)} of the"):
        distill(teacher=str(student.path), val_fraction=0.4, **settings)


def test_of_a_teacher_without_a_record_nothing_is_known(photos, teacher, settings, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(teacher.path, old)
    (old / NAME).unlink()
    distill(teacher=str(old), val_fraction=0.4, progress=True, name="a", **settings)
    assert "has no record of the images it was trained on" in capsys.readouterr().err
    (old / NAME).write_bytes(b"damaged")
    with pytest.raises(InputError, match=rf"{NAME} cannot be read .*; remove it"):
        distill(teacher=str(old), val_fraction=0.4, **settings)


def test_images_that_an_official_split_has_twice_are_told_and_not_refused(photos, tmp_path, capsys):
    for place, file in enumerate(sorted(photos.rglob("*.png"))):
        for split in ["train", "val"] if place % 9 == 0 else ["val" if place % 3 == 0 else "train"]:
            there = tmp_path / "data" / split / file.parent.name / file.name
            there.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, there)
    common = {"data": tmp_path / "data", "runs": str(tmp_path / "runs"), **COMMON}
    teacher = train(model=MODEL, name="t", progress=True, **common).record
    assert "warning: 10 of the 30 validation images are training images as well" in capsys.readouterr().err
    distill(teacher=str(teacher.path), student=MODEL, method="kd", per_class=2, **common)  # not refused


def test_evaluating_on_images_of_the_training_warns(photos, teacher, capsys):
    with pytest.warns(UserWarning, match=rf"{leaked(photos, 0.4)} of the \d+ validation images .* trained on"):
        evaluate(model=str(teacher.path), data=photos, val_fraction=0.4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(model=str(teacher.path), data=photos, val_fraction=0.1)
    command = ["evaluate", "--model", str(teacher.path), "--data", str(photos), "--val_fraction", "0.4"]
    assert main(command) == 0
    said = capsys.readouterr().err
    assert said.startswith("warning: ")
    assert said.count("\n") == 1


def test_images_of_another_size_than_a_run_s_are_said_except_for_a_teacher(photos, teacher, settings, tmp_path, capsys):
    distill(teacher=str(teacher.path), image_size=16, progress=True, name="a", **settings)
    said = capsys.readouterr().err
    assert f"{teacher.path}: takes images at 8x8 pixels" in said
    assert "note:" not in said
    distill(teacher=str(teacher.path), progress=True, name="b", **settings)
    assert "note:" not in capsys.readouterr().err
    with pytest.warns(UserWarning, match="trained on images of 8x8 pixels and gets them at 16x16"):
        evaluate(model=str(teacher.path), data=photos, image_size=16)
    train(model=str(teacher.path), data=photos, image_size=16, runs=str(tmp_path), progress=True, **COMMON)
    assert "model=" in capsys.readouterr().err
    assert isinstance(teacher, RunFolder)
