from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import stillroom
from stillroom.engine import predictions as module
from stillroom.engine.predictions import predictions_of, teacher_predictions_of, teacher_trouble
from stillroom.errors import InputError
from stillroom.tasks.classification_score import agreement, score
from tests.conftest import tiny_model

FAST = {"epochs": 2, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32"}


def distilled(runs, data, seed=0, width=16, **settings):
    torch.manual_seed(5)
    teacher = tiny_model(width=width)
    torch.manual_seed(seed)
    given = {**FAST, "method": "kd", "name": f"s{seed}", "seed": seed, **settings}
    return stillroom.distill(teacher=teacher, student=tiny_model(), data=data, runs=str(runs), **given).record


@pytest.fixture
def run(tmp_path, tiny_data):
    return distilled(tmp_path, tiny_data)


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("export", ["last", "best"])
def test_a_run_keeps_predictions_that_give_the_recorded_numbers(tmp_path, tiny_data, export, precision):
    run = distilled(tmp_path, tiny_data, export=export, precision=precision, epochs=3, lr=0.3)
    got, teacher, summary = predictions_of(run), teacher_predictions_of(run), run.summary()
    assert score(got.logits, got.labels).top1 == summary[export]["val_top1"]
    assert 100 * got.correct.double().mean().item() == pytest.approx(summary[export]["val_top1"], abs=1e-9)
    assert score(got.logits, got.labels).loss == pytest.approx(summary[export]["val_loss"], abs=2e-3)
    assert score(teacher.logits, teacher.labels).top1 == summary["teacher"]["top1"]
    assert agreement(got.logits, teacher.logits) == summary[export]["agreement"]


def test_predictions_come_with_labels_and_sample_ids_in_the_sets_order(run, tiny_data):
    got = predictions_of(run)
    assert torch.equal(got.labels, tiny_data.val.labels)
    assert torch.equal(got.ids, tiny_data.val.ids)
    assert (got.logits.dtype, got.logits.shape) == (torch.float32, (40, 4))
    assert load_file(run.predictions)["logits"].dtype == torch.float16


def test_a_teachers_predictions_are_kept_once_for_the_runs_that_share_it(tmp_path, tiny_data):
    one, two = distilled(tmp_path, tiny_data), distilled(tmp_path, tiny_data, seed=1)
    assert len(list(tmp_path.glob("teacher-*.safetensors"))) == 1
    assert torch.equal(teacher_predictions_of(one).logits, teacher_predictions_of(two).logits)
    other = distilled(tmp_path, tiny_data, seed=2, width=12)
    assert not torch.equal(teacher_predictions_of(other).logits, teacher_predictions_of(one).logits)


def test_teachers_that_only_their_code_tells_apart_share_no_predictions(tmp_path, tiny_data):
    class Doubled(torch.nn.Sequential):
        def forward(self, images):
            return 2 * super().forward(images)

    torch.manual_seed(5)
    teacher, given = tiny_model(width=16), {**FAST, "method": "kd", "runs": str(tmp_path), "data": tiny_data}
    one = stillroom.distill(teacher=teacher, student=tiny_model(), name="one", **given).record
    two = stillroom.distill(teacher=Doubled(*teacher), student=tiny_model(), name="two", **given).record
    assert one.config()["teacher_weights"] == two.config()["teacher_weights"]
    assert torch.allclose(teacher_predictions_of(two).logits, 2 * teacher_predictions_of(one).logits, atol=1e-2)


def test_a_run_on_labels_has_no_predictions_of_a_teacher(tmp_path, tiny_data):
    run = stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), **FAST).record
    assert teacher_predictions_of(run) is None
    assert teacher_trouble(run) == ""


def test_a_teachers_predictions_that_are_not_there_are_named(run):
    (path,) = run.path.parent.glob("teacher-*.safetensors")
    path.write_bytes(path.read_bytes()[:-9])
    assert teacher_predictions_of(run) is None
    assert f"{path.name}, are not beside the run" in teacher_trouble(run)


def test_a_teacher_whose_logits_are_not_finite_has_none_to_compare_with(run):
    (path,) = run.path.parent.glob("teacher-*.safetensors")
    _rewrite(path, lambda tensors, facts: tensors.update(logits=tensors["logits"].fill_(float("nan"))))
    assert teacher_predictions_of(run) is None
    assert "not finite" in teacher_trouble(run)


def _rewrite(path, change):
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        facts = file.metadata()
    change(tensors, facts)
    save_file(tensors, path, facts)


DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "too few images": lambda path: _rewrite(path, lambda t, m: t.update(logits=t["logits"][:-1].contiguous())),
    "other classes": lambda path: _rewrite(path, lambda t, m: t.update(logits=t["logits"][:, :3].contiguous())),
    "labels of another kind": lambda path: _rewrite(path, lambda t, m: t.update(labels=t["labels"].float())),
    "labels without a class": lambda path: _rewrite(path, lambda t, m: t.update(labels=t["labels"] + 4)),
    "no ids": lambda path: _rewrite(path, lambda t, m: t.pop("ids")),
    "another format": lambda path: _rewrite(path, lambda t, m: m.update(format="0")),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_file_that_does_not_fit_is_named_with_the_way_out(run, damage):
    DAMAGE[damage](run.predictions)
    with pytest.raises(InputError, match=r"predictions\.safetensors cannot be read .*remove it and run the run's comm"):
        predictions_of(run)


def test_a_run_of_an_earlier_version_is_completed_from_its_checkpoint_by_the_same_command(tmp_path, tiny_data):
    run = distilled(tmp_path, tiny_data)
    whole, rows = predictions_of(run), run.epochs()
    run.predictions.unlink()
    next(tmp_path.glob("teacher-*.safetensors")).unlink()
    with pytest.raises(InputError, match="is missing; run the run's command again"):
        predictions_of(run)
    assert torch.equal(predictions_of(distilled(tmp_path, tiny_data)).logits, whole.logits)
    assert run.epochs() == rows
    assert teacher_predictions_of(run) is not None


def test_a_finished_run_without_predictions_and_checkpoint_is_not_trained_again(tmp_path, tiny_data):
    run = distilled(tmp_path, tiny_data)
    rows = run.epochs()
    run.predictions.unlink()
    run.last.unlink()
    assert distilled(tmp_path, tiny_data).epochs() == rows
    assert not run.predictions.exists()


def test_an_unfinished_run_has_none(run):
    (run.path / "summary.json").unlink()
    with pytest.raises(InputError, match="finished run folder"):
        predictions_of(run)


def test_a_full_disk_ends_the_run_with_one_line_and_leaves_it_to_be_finished(tmp_path, tiny_data, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", full)
        with pytest.raises(InputError, match=r"predictions\.safetensors could not be written"):
            distilled(tmp_path, tiny_data)
    assert distilled(tmp_path, tiny_data).complete
