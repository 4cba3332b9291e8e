from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stillroom.engine.evaluate import agreement, score
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report import predictions as module
from stillroom.report.predictions import (
    answers,
    dataset_of,
    student_of,
    teacher_answers,
    teacher_of,
    teacher_run_of,
    teacher_trouble,
)
from tests.report.conftest import SMALL, trained


@pytest.fixture
def run(runs):
    return RunFolder(runs / "kd-s0")


@pytest.fixture
def no_models(monkeypatch):
    """Any attempt to compute fails."""

    def refuse(*_, **__):
        raise AssertionError("a model was asked again")

    return lambda: monkeypatch.setattr(module, "predict", refuse)


@pytest.mark.parametrize("name", ["ce-s0", "ce-s1", "kd-s0", "kd-s1", "ldrld-s0", "teacher"])
def test_the_answers_reproduce_the_recorded_accuracy_of_the_last_epoch(runs, name):
    run = RunFolder(runs / name)
    got, last = answers(run), run.summary()["last"]
    assert score(got.logits, got.labels).top1 == last["val_top1"]
    assert 100 * got.correct.double().mean().item() == pytest.approx(last["val_top1"], abs=1e-9)
    assert score(got.logits, got.labels).loss == pytest.approx(last["val_loss"], abs=2e-3)
    assert (got.logits.dtype, got.labels.dtype) == (torch.float32, torch.int64)


def test_the_exported_best_epoch_is_what_is_answered_for(runs):
    run = trained("train", runs, "best", model=SMALL, epochs=3, lr=0.3, export="best", data=_images(runs))
    got = answers(run)
    assert score(got.logits, got.labels).top1 == run.summary()["best"]["val_top1"]


def _images(runs):
    return RunFolder(runs / "teacher").config()["data"]


def test_the_teachers_answers_reproduce_the_recorded_agreement_and_are_kept_once_for_all_runs(runs, no_models):
    first, second = RunFolder(runs / "kd-s0"), RunFolder(runs / "ldrld-s0")
    teacher = teacher_answers(first)
    assert score(teacher.logits, teacher.labels).top1 == first.summary()["teacher"]["top1"]
    assert agreement(answers(first).logits, teacher.logits) == first.summary()["last"]["agreement"]
    no_models()
    assert torch.equal(teacher_answers(second).logits, teacher.logits)
    assert len(list(runs.glob("teacher-*.safetensors"))) == 1


def test_in_bf16_the_teacher_is_asked_in_the_form_in_which_it_taught(runs):
    settings = {"teacher": str(runs / "teacher"), "student": SMALL, "method": "kd", "data": _images(runs)}
    run = trained("distill", runs / "bf16", "kd", epochs=1, precision="bf16", **settings)
    teacher = teacher_answers(run)
    assert score(teacher.logits, teacher.labels).loss == pytest.approx(run.summary()["teacher"]["loss"], abs=1e-4)
    assert agreement(answers(run).logits, teacher.logits) == run.summary()["last"]["agreement"]


def test_a_run_on_labels_has_no_teacher(runs):
    run = RunFolder(runs / "teacher")
    assert teacher_answers(run) is None
    assert teacher_of(run, dataset_of(run)) is None
    assert teacher_run_of(run) is None
    assert teacher_trouble(run) == ""


def test_answers_are_computed_once_and_come_back_unchanged(run, no_models):
    first = answers(run)
    no_models()
    second = answers(run)
    assert torch.equal(first.logits, second.logits)
    assert torch.equal(first.labels, second.labels)


def test_files_are_in_half_precision_where_it_holds_the_logits(run):
    answers(run)
    assert load_file(run.path / "validation.safetensors")["logits"].dtype == torch.float16


def _rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        metadata = file.metadata()
    change(tensors, metadata)
    save_file(tensors, path, metadata)


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "too few images": lambda path: _rewrite(path, lambda t, m: t.update(logits=t["logits"][:-1].contiguous())),
    "other classes": lambda path: _rewrite(path, lambda t, m: t.update(logits=t["logits"][:, :3].contiguous())),
    "labels of another kind": lambda path: _rewrite(path, lambda t, m: t.update(labels=t["labels"].float())),
    "no labels": lambda path: _rewrite(path, lambda t, m: t.pop("labels")),
    "another format": lambda path: _rewrite(path, lambda t, m: m.update(format="0")),
    "another student": lambda path: _rewrite(path, lambda t, m: m.update(weights="0" * 16)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit_is_made_anew(run, damage):
    whole = answers(run)
    path = run.path / "validation.safetensors"
    DAMAGE[damage](path)
    assert torch.equal(answers(run).logits, whole.logits)
    assert load_file(path)["logits"].shape == whole.logits.shape


def test_other_weights_in_the_run_folder_give_other_answers(runs, run):
    old = answers(run).logits
    shutil.copyfile(runs / "ce-s0" / "student.safetensors", run.student)
    assert torch.equal(answers(run).logits, answers(RunFolder(runs / "ce-s0")).logits)
    assert not torch.equal(answers(run).logits, old)


def test_a_folder_that_cannot_be_written_only_costs_the_file(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_atomically", full)
    assert answers(run).logits.shape == (40, 4)
    assert not (run.path / "validation.safetensors").exists()


def test_rounding_never_changes_which_class_is_named():
    close = torch.tensor([[10.0, 10.001, 3.0], [-10.001, -10.0, -20.0], [5.0, 5.0, 5.0001], [1.0, 2.0, 3.0]])
    got = module._rounded(close)
    assert got.argmax(1).tolist() == got.topk(3).indices[:, 0].tolist() == close.argmax(1).tolist() == [1, 1, 2, 2]
    assert ((got == got.max(1, keepdim=True).values).sum(1) == 1).all()
    assert torch.equal(got, got.half().float())
    assert (got - close).abs().max() <= 2**-7
    many = torch.randn(2000, 50, generator=torch.Generator().manual_seed(0)).div(100).add(10)
    labels = torch.zeros(2000).long()
    assert score(module._rounded(many), labels).top1 == score(many, labels).top1
    huge = torch.tensor([[70_000.25, 1.0]])
    assert torch.equal(module._rounded(huge), huge)


def test_the_dataset_of_many_runs_are_loaded_once_and_shown_as_each_run_saw_them(runs, monkeypatch):
    loads = []
    load = module.load_dataset
    module._loaded.cache_clear()
    monkeypatch.setattr(module, "load_dataset", lambda options: loads.append(options) or load(options))
    other = trained(
        "train", runs, "grey", model=SMALL, epochs=1, mean=[0.1] * 3, std=[0.9] * 3, data=_images(runs)
    )  # fmt: skip
    sets = [dataset_of(RunFolder(runs / name)) for name in ("kd-s0", "kd-s1", "ce-s0", "teacher")]
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
        answers(run)


def test_images_whose_pixels_changed_since_the_run_are_refused(run, tmp_path):
    config, copy = run.config(), tmp_path / "images"
    shutil.copytree(config["data"], copy)
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(config["data"], str(copy)))
    assert len(dataset_of(run).val) == 40
    module._loaded.cache_clear()
    module._contents.cache_clear()
    first = next((copy / "val").rglob("*.png"))
    Image.new("RGB", Image.open(first).size).save(first)
    with pytest.raises(InputError, match=r"the images or labels of data=.* have changed since this run"):
        answers(run)


def test_building_models_leaves_the_callers_random_numbers_alone(run):
    data = dataset_of(run)
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    assert not student_of(run, data).training
    assert not teacher_of(run, data).training
    assert torch.equal(torch.rand(2), wanted)


def test_an_unfinished_run_is_refused(run):
    (run.path / "summary.json").unlink()
    with pytest.raises(InputError, match="finished run folder"):
        answers(run)


def _move_away(run):
    """Make the teacher's place in the settings one that is not there."""
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(run.config()["teacher"], "elsewhere/teacher"))


def test_a_teacher_that_was_moved_together_with_the_run_is_found_beside_it(runs, run):
    _move_away(run)
    assert teacher_run_of(run).path == runs / "teacher"
    assert teacher_answers(run) is not None


def test_without_its_teacher_a_run_still_answers_and_it_is_said_why(runs, run):
    _move_away(run)
    shutil.rmtree(runs / "teacher")
    assert teacher_answers(run) is None
    assert "elsewhere/teacher is not there any more" in teacher_trouble(run)
    assert len(answers(run).labels) == 40


def test_a_teacher_with_other_weights_than_in_the_run_is_refused(runs, run):
    _move_away(run)
    weights = load_file(runs / "teacher" / "student.safetensors")
    weights[next(name for name in weights if weights[name].is_floating_point())] += 1
    save_file(weights, runs / "teacher" / "student.safetensors")
    with pytest.raises(InputError, match="has other weights now"):
        teacher_of(run, dataset_of(run))
    assert teacher_answers(run) is None
    assert "other weights" in teacher_trouble(run)


def test_stored_answers_are_enough_once_the_images_are_gone(run, monkeypatch):
    wanted = answers(run)
    monkeypatch.setattr(module, "dataset_of", lambda run: pytest.fail("images were loaded"))
    assert torch.equal(answers(run).logits, wanted.logits)


def test_a_teacher_given_by_a_models_name_is_not_mistaken_for_a_run_of_that_name(runs, run):
    (runs / "resnet56").mkdir()
    shutil.copyfile(runs / "teacher" / "config.yaml", runs / "resnet56" / "config.yaml")
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace(run.config()["teacher"], "resnet56"))
    assert teacher_run_of(run) is None
