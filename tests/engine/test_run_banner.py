from __future__ import annotations

import torch

import stillroom
from stillroom.runtime.reporters import Lines
from tests.conftest import tiny_model

FAST = {"epochs": 1, "batch_size": 80, "lr": 0.05, "accelerator": "cpu", "precision": "32"}


def test_a_run_says_first_what_it_is_and_how_it_computes(tmp_path, tiny_data, monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("stillroom.api.make_reporter", lambda show: Lines(lines.append))
    model = "tests.conftest:tiny_model"
    _, teacher = stillroom.train(model=model, data=tiny_data, runs=str(tmp_path), name="t", **FAST)
    assert lines[:3] == [
        "note: batch_size=80 takes all 80 training images at once, so that an epoch is 1 step; a smaller batch size "
        "learns faster",
        f"t: {model} (276 parameters) learns from labels; 4 classes, 80 training and 40 validation images of 8x8, "
        "in memory",
        "t: 1 epoch of 1 step; batch size 80, sgd, learning rate 0.05, onecycle; "
        f"cpu with {torch.get_num_threads()} thread, precision 32",
    ]
    lines.clear()
    more = FAST | {"epochs": 2, "batch_size": 16, "schedule": "cosine", "runs": str(tmp_path), "name": "s"}
    stillroom.distill(teacher=str(teacher.path), student=tiny_model(), method="kd", data=tiny_data, trust=True, **more)
    about, how, *_ = [line for line in lines if line.startswith("s: ")]
    assert about == (
        f"s: student torch.nn.modules.container.Sequential (276 parameters), teacher {teacher.path} "
        f"({model}, 276 parameters), method kd; 4 classes, 80 training and 40 validation images of 8x8, in memory"
    )
    assert how.startswith("s: 2 epochs of 5 steps; batch size 16, sgd, learning rate 0.05, cosine; cpu")
