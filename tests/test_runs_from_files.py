"""Runs whose images stay in files: every command that reads a finished run works as for images in memory."""

from __future__ import annotations

import pytest

import stillroom
from stillroom.cli import main
from stillroom.engine.predictions import predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.export import export
from tests.conftest import colour_folder

MODELS = {"teachers": "stillroom.models.demo_nets:medium", "students": "stillroom.models.demo_nets:small"}
FAST = {"epochs": 2, "batch_size": 16, "lr": 0.05, "accelerator": "cpu", "precision": "32", "image_size": 16}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return colour_folder(tmp_path_factory.mktemp("photos"), count=12, side=20)


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """A comparison of two methods."""
    runs = tmp_path_factory.mktemp("runs")
    settings = {**MODELS, **FAST, "methods": "ce,kd", "seeds": 1, "jobs": 1, "data": photos, "source": "files"}
    words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    assert main(["compare", *words, "--workers", "0", "--runs", str(runs), "--name", "c"]) == 0
    return runs / "c"


@pytest.fixture(scope="module")
def run(folder):
    return next(RunFolder(path) for path in folder.iterdir() if path.name.endswith("kd-s0"))


def test_a_comparison_ends_with_its_page(folder, run):
    assert run.config()["source"] == "files"
    assert f"{run.summary()['last']['val_top1']:.1f}" in (folder / "index.html").read_text()


def test_a_run_evaluates_as_it_validated(photos, run):
    summary = run.summary()["last"]
    found = stillroom.evaluate(model=str(run.path), data=str(photos), accelerator="cpu", trust=True)
    assert found.top1 == pytest.approx(summary["val_top1"])
    assert found.loss == pytest.approx(summary["val_loss"], rel=1e-4)


def test_an_export_predicts_as_the_run(photos, run, tmp_path):
    out = export(run, tmp_path / "out", onnx=False, latency=False, trust=True).folder
    file = photos / "red" / "3.png"
    (one,), (same,) = (
        stillroom.predict_images(model, file, accelerator="cpu", trust=True) for model in (run.path, out)
    )
    assert one.probabilities == pytest.approx(same.probabilities, abs=1e-6)


def test_a_report_has_the_views_that_need_the_images(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "--views", "true", "--out", str(page), "--trust"]) == 0
    assert "data:image" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_both_sources_give_the_same_predictions(photos, tmp_path):
    def logits(source):
        settings = {"data": str(photos), "source": source, "workers": 0, "runs": str(tmp_path), "name": source}
        return predictions_of(stillroom.train(model=MODELS["students"], **FAST, **settings).record).logits

    assert (logits("memory") == logits("files")).all()
