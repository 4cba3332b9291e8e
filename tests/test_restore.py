from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import stillroom
from stillroom import restore as module
from stillroom.data import Loader
from stillroom.engine.predictions import predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.models.predict import predict
from stillroom.restore import dataset_of, student_of, teacher_of, teacher_run_of
from tests.conftest import tiny_model, tiny_set
from tests.report.conftest import LARGE, SMALL, trained, write_images


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A teacher and a student, with ``images`` beside their folder; nothing may be written there."""
    top = tmp_path_factory.mktemp("restored")
    write_images(top / "images" / "train", tiny_set(8))
    write_images(top / "images" / "val", tiny_set(10, seed=1))
    teacher = trained("train", top / "runs", "teacher", model=LARGE, epochs=1)
    trained("distill", top / "runs", "kd-s0", teacher=str(teacher.path), student=SMALL, method="kd", epochs=1)
    return top / "runs"


@pytest.fixture
def runs(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "runs"))


@pytest.fixture
def run(runs):
    return RunFolder(runs / "kd-s0")


def _images(runs):
    return RunFolder(runs / "teacher").config()["data"]


def test_student_and_images_are_those_that_the_run_predicted_with(run):
    data = dataset_of(run)
    loader = Loader(data.val, batch_size=64, input_format=data.input_format, shuffle=False, channels_last=True)
    logits, labels = predict(student_of(run, data), loader.epoch(0))
    kept = predictions_of(run)
    assert torch.allclose(kept.logits, logits, atol=2e-3)
    assert torch.equal(kept.labels, labels)


def test_a_student_that_was_handed_in_cannot_be_built_again(tmp_path, tiny_data):
    run = stillroom.train(
        model=tiny_model(), data=tiny_data, runs=str(tmp_path), epochs=1, batch_size=16, lr=0.1, accelerator="cpu"
    ).record
    with pytest.raises(InputError, match="handed in as a module"):
        student_of(run, tiny_data)


def test_a_run_on_labels_has_no_teacher(runs):
    run = RunFolder(runs / "teacher")
    assert teacher_of(run, dataset_of(run)) is None
    assert teacher_run_of(run) is None


def test_the_dataset_of_many_runs_are_loaded_once_and_shown_as_each_run_saw_them(runs, monkeypatch):
    loads = []
    load = module.load_dataset
    module._loaded.cache_clear()
    monkeypatch.setattr(module, "load_dataset", lambda options, classes: loads.append(options) or load(options))
    other = trained(
        "train", runs, "grey", model=SMALL, epochs=1, mean=[0.1] * 3, std=[0.9] * 3, data=_images(runs)
    )  # fmt: skip
    sets = [dataset_of(RunFolder(runs / name)) for name in ("kd-s0", "teacher")]
    assert dataset_of(other).mean == (0.1,) * 3
    assert len(loads) == 1
    assert all(data.val is sets[0].val for data in sets)
    config = RunFolder(runs / "kd-s0").config()
    assert list(sets[0].mean) == config["mean"]
    assert sets[0].augment.pad == 1


def test_images_that_changed_since_the_run_are_refused(run, tmp_path):
    config, copy = run.config(), tmp_path / "images"
    shutil.copytree(config["data"], copy)
    next((copy / "val").rglob("*.png")).unlink()
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(config["data"], str(copy)))
    with pytest.raises(InputError, match=r"have changed since this run \(val_images differs\)"):
        dataset_of(run)


def test_images_whose_pixels_changed_since_the_run_are_refused(run, tmp_path):
    config, copy = run.config(), tmp_path / "images"
    shutil.copytree(config["data"], copy)
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(config["data"], str(copy)))
    assert len(dataset_of(run).val) == 40
    module._loaded.cache_clear()
    first = next((copy / "val").rglob("*.png"))
    Image.new("RGB", Image.open(first).size).save(first)
    with pytest.raises(InputError, match=r"the images or labels of data=.* have changed since this run"):
        dataset_of(run)


def test_building_models_leaves_the_callers_random_numbers_alone(run):
    data = dataset_of(run)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert not student_of(run, data).training
    assert not teacher_of(run, data).training
    assert torch.equal(torch.rand(2), wanted)


def _move_away(run):
    """Make the teacher's place in the settings one that is not there."""
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(run.config()["teacher"], "elsewhere/teacher"))


def test_a_teacher_that_was_moved_together_with_the_run_is_found_beside_it(runs, run):
    _move_away(run)
    assert teacher_run_of(run).path == runs / "teacher"


def test_a_teacher_with_other_weights_than_in_the_run_is_refused(runs, run):
    _move_away(run)
    weights = load_file(runs / "teacher" / "student.safetensors")
    weights[next(name for name in weights if weights[name].is_floating_point())] += 1
    save_file(weights, runs / "teacher" / "student.safetensors")
    with pytest.raises(InputError, match="has other weights now"):
        teacher_of(run, dataset_of(run))


def test_a_teacher_given_by_a_models_name_is_not_mistaken_for_a_run_of_that_name(runs, run):
    (runs / "resnet56").mkdir()
    shutil.copyfile(runs / "teacher" / "config.yaml", runs / "resnet56" / "config.yaml")
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(run.config()["teacher"], "resnet56"))
    assert teacher_run_of(run) is None


def test_a_slice_of_the_classes_is_recorded_comes_back_and_decides_the_run(made, tmp_path):
    settings = {"model": SMALL, "epochs": 1, "data": _images(made)}
    chosen = ["class 3", "class 1"]
    run = trained("train", tmp_path, "slice", only_classes=chosen, **settings)
    assert (run.config()["only_classes"], run.config()["classes"]) == (chosen, ["class 1", "class 3"])
    data = dataset_of(run)
    assert data.train.classes == ("class 1", "class 3")
    assert torch.equal(predictions_of(run).labels, data.val.labels)
    trained("train", tmp_path, "slice", only_classes=chosen, **settings)  # the same run
    with pytest.raises(InputError, match=r"holds a run with other settings.*only_classes"):
        trained("train", tmp_path, "slice", only_classes=["class 0", "class 1"], **settings)
