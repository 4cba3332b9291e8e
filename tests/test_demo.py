from __future__ import annotations

import pytest

from stillroom import demo as module
from stillroom.demo import DETECTION_METHODS, METHODS, DetectionScale, Scale, demo
from stillroom.engine.run_folder import RunFolder
from stillroom.models import build_model, load_weights


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        module, "QUICK", Scale(module.STUDENT, classes=10, per_class=8, teacher_epochs=1, student_epochs=1)
    )
    return tmp_path / "out"


def test_the_demo_leaves_runs_a_page_and_a_student(small, monkeypatch):
    shown = []
    demo(out=str(small), quick=True, seed=0, show=shown.append)
    runs = {name: RunFolder(small / name) for name in ("teacher", *METHODS)}
    assert all(run.finished for run in runs.values())
    page = (small / "index.html").read_text()
    assert "over labels only" in page
    assert "Relation explorer" in page
    for name, run in runs.items():
        assert name.replace("-", " ") in page
        assert f"{run.summary()['last']['val_top1']:.2f}" in page
    assert "http" not in page.replace("http://www.w3.org/", "")  # XML namespaces are names, not addresses
    student = build_model(module.STUDENT, num_classes=10)
    load_weights(student, small / "ldrld-student.safetensors")

    again = []
    monkeypatch.setattr(module, "write_report", lambda path, comparison, summaries: None)
    demo(out=str(small), quick=True, seed=0, show=again.append)  # nothing is trained twice
    assert [run.student.stat().st_mtime_ns for run in runs.values()] == [
        RunFolder(run.path).student.stat().st_mtime_ns for run in runs.values()
    ]
    assert str(again[-2]) == str(shown[-2])


def test_all_students_start_from_the_same_weights_and_see_the_same_images(small, monkeypatch):
    monkeypatch.setattr(module, "write_report", lambda path, comparison, summaries: None)
    demo(out=str(small), quick=True, seed=0, show=lambda _: None)
    configs = [RunFolder(small / name).config() for name in METHODS]
    for key in ("seed", "student", "epochs", "lr", "batch_size", "teacher_weights", "train_images"):
        assert len({str(config[key]) for config in configs}) == 1, key


def test_the_demo_of_detectors_leaves_runs_a_page_with_boxes_and_a_student(tmp_path, monkeypatch):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "QUICK_DETECTION", DetectionScale(scenes=10, epochs=1, batch_size=8))
    folder, shown = tmp_path / "out", []
    demo(out=str(folder), quick=True, seed=0, show=shown.append, task="detection")
    runs = {name: RunFolder(folder / name) for name in ("teacher", *DETECTION_METHODS)}
    assert all(run.finished and run.config()["task"] == "detection" for run in runs.values())
    terms = {name: set(run.epochs()[-1]["terms"]) for name, run in runs.items()}
    assert terms["labels-only"] == {"supervised"}
    assert terms["ldrld-and-reviewkd"] == {"supervised", "ldrld", "reviewkd"}
    page = (folder / "index.html").read_text()
    assert "Kinds of errors" in page
    assert "Chosen images" in page
    assert all(name.replace("-", " ") in page for name in DETECTION_METHODS)
    student = build_model(f"{module.DETECTORS}:small_detector", num_classes=17)
    load_weights(student, folder / "ldrld-student.safetensors")
