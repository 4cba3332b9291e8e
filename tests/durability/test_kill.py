"""SIGKILL at any moment costs time and nothing else: files are whole, and the run goes on bit for bit."""

from __future__ import annotations

import os
import random
import re
import signal
import time

import pytest
import torch

from stillroom.engine.run_folder import RunFolder
from tests.durability.whole import asides, differences, files, goes_on, in_bytes

# How far a write gets is a share of the whole file.
# Of the run with the bank: environment.json and config.yaml are written first, then val logits, then 4 epochs with
# 3 blocks of teacher logits, best weights where they are better, metrics and the checkpoint each.
LOGITS = {
    "in the record of the machine": ("killed_in_write", r"environment\.json", 1, 0.1),
    "between the first records": ("killed_at_file", "renamed", r"inputs\.json", 1),
    "in the settings": ("killed_in_write", r"config\.yaml", 1, 0.5),
    "before the settings are in place": ("killed_at_file", "synced", r"config\.yaml", 1),
    "after the settings": ("killed_at_file", "renamed", r"config\.yaml", 1),
    "in the bank's key": ("killed_in_write", r"key\.json", 1, 0.2),
    "in the bank's logits of the validation set": ("killed_in_write", r"val-.*", 1, 0.2),
    "in a forward pass": ("killed_before", "batch norm", 30),
    "before a backward pass": ("killed_before", "backward", 8),
    "between backward pass and step": ("killed_before", "step", 13),
    "before a block of the bank": ("killed_at_file", "touched", r"logits-epoch0001-block0001.*", 1),
    "in a block of the bank": ("killed_in_write", r"logits-epoch0002-block0001.*", 1, 0.9),
    "after a block of the bank": ("killed_at_file", "renamed", r"logits-epoch0003-block0000.*", 1),
    "in the first checkpoint": ("killed_in_write", r"last\.pt", 1, 0.3),
    "at the end of a checkpoint": ("killed_in_write", r"last\.pt", 3, 0.999),
    "before a checkpoint is in place": ("killed_at_file", "synced", r"last\.pt", 2),
    "after a checkpoint": ("killed_at_file", "renamed", r"last\.pt", 4),
}
# All parts of a recipe at once. 16 images judge the epochs, which can be better than all before at most 16 times, so
# that a patience of 2 ends the run before epoch 40.
RECIPE = {
    "epochs": 40, "patience": 2, "stop_fraction": 0.2, "schedule": "onecycle", "ema": 0.9, "clip_grad_norm": 0.5,
    "accumulate": 3, "mixup": 0.8, "cutmix": 1.0, "mix_probability": 0.7, "label_smoothing": 0.1,
    "sampling": "balanced", "no_decay_norms": True, "auto_augment": "trivial", "erase": 0.5, "checkpoint_steps": 2,
}  # fmt: skip
FEATURES = {
    "before the first step": ("killed_before", "step", 1),
    "in the best weights": ("killed_in_write", r"(candidate|best)\.safetensors", 1, 0.5),
    "between the best weights and their checkpoint": ("killed_at_file", "renamed", r"candidate\.safetensors", 2),
    "between a checkpoint and its best weights": ("killed_at_file", "renamed", r"last\.pt", 1),
    "in the numbers of an epoch": ("killed_in_write", r"metrics\.jsonl", 2, 0.3),
    "in a checkpoint": ("killed_in_write", r"last\.pt", 2, 0.7),
    "in the last step": ("killed_before", "step", 20),
    "in the student": ("killed_in_write", r"student\.safetensors", 1, 0.9),
    "between student and summary": ("killed_at_file", "renamed", r"student\.safetensors", 1),
    "in the summary": ("killed_in_write", r"summary\.json", 1, 0.5),
    "before the summary is in place": ("killed_at_file", "synced", r"summary\.json", 1),
}
MOMENTS = [("logits", name) for name in LOGITS] + [("features", name) for name in FEATURES]


@pytest.mark.parametrize(
    ("method", "moment"), MOMENTS, ids=[name.replace(" ", "_").replace("'", "") for _, name in MOMENTS]
)
def test_a_run_killed_at_a_moment_ends_as_if_it_had_not_been(lives, undisturbed, tmp_path, method, moment):
    end = lives.live("distil", tmp_path, method, in_bytes((LOGITS | FEATURES)[moment], undisturbed[method]))
    assert end.signal == signal.SIGKILL, end.error
    files(tmp_path)
    goes_on(lives, tmp_path, method, undisturbed)


@pytest.mark.parametrize("method", ["logits", "features"])
def test_runs_killed_again_and_again_at_random_moments_end_as_if_they_had_not_been(
    lives, undisturbed, tmp_path, method
):
    chance, killed, finished = random.Random(3), 0, 0
    for _ in range(40):  # how fast this machine is right now decides how many lives a run has
        folder = tmp_path / str(finished)
        end = lives.live("distil", folder, method, limit=chance.uniform(0.1, 1) * undisturbed[method].seconds)
        assert end.error == ""
        files(folder)
        killed += end.signal == signal.SIGKILL
        if end.signal == 0 or killed == 8:
            goes_on(lives, folder, method, undisturbed)
            finished += 1
        if killed == 8:
            break
    assert killed == 8


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("logits", {"checkpoint_steps": 2}),
        ("features", {"checkpoint_minutes": 1e-9}),
        ("logits", {"checkpoint_steps": 2, "accumulate": 3}),
        ("recipe", {**RECIPE, "optimizer": "dot", "precision": "32"}),
        ("recipe", {**RECIPE, "optimizer": "deepkd", "precision": "bf16"}),
    ],
)
def test_a_run_killed_in_mid_epoch_goes_on_from_its_latest_checkpoint_bit_for_bit(lives, tmp_path, method, settings):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert lives.live("distil_saving_often", whole, method, settings).error == ""
    places, chance = [], random.Random(5)
    most = 5 if method == "recipe" else 8  # early stopping leaves at least twelve steps
    while len(places) < 2:  # each life is killed before one of its first steps
        trouble = ("killed_before", "step", chance.randint(3, most))
        end = lives.live("distil_saving_often", cut, method, settings, trouble)
        assert end.signal == signal.SIGKILL, end.error
        progress = torch.load(cut / "run" / "checkpoint" / "last.pt", weights_only=True)["progress"]
        places.append((progress["epoch"], progress["step"]))
    assert any(step for _, step in places)
    assert lives.live("distil_saving_often", cut, method, settings).error == ""
    found = differences(files(cut), files(whole))
    if method == "recipe":
        assert RunFolder(cut / "run").summary()["early_stop"]["stopped"]
    assert [place for place in found if not re.search(r"/(runs|bank)$", place)] == []  # they lie elsewhere


def test_a_detector_killed_in_mid_epoch_goes_on_bit_for_bit(lives, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert lives.live("distil_detector", whole).error == ""
    end = lives.live("distil_detector", cut, ("killed_before", "step", 6))
    assert end.signal == signal.SIGKILL, end.error
    progress = torch.load(cut / "run" / "checkpoint" / "last.pt", weights_only=True)["progress"]
    assert progress["step"] > 0
    assert lives.live("distil_detector", cut).error == ""
    found = differences(files(cut), files(whole))
    assert [place for place in found if not re.search(r"/runs$", place)] == []


def test_what_was_left_half_written_in_the_bank_goes_when_it_is_old(lives, undisturbed, tmp_path):
    lives.live("distil", tmp_path, "logits", in_bytes(LOGITS["in a block of the bank"], undisturbed["logits"]))
    (left,) = asides(tmp_path / "bank")
    goes_on(lives, tmp_path, "logits", undisturbed)
    assert asides(tmp_path / "bank") == [left]  # another run might be writing it
    os.utime(left, (time.time() - 7200,) * 2)
    (tmp_path / "run").rename(tmp_path / "done")
    lives.live("distil", tmp_path, "logits")
    assert asides(tmp_path / "bank") == []


def test_a_second_process_does_not_touch_a_run_that_one_is_at_work_on(lives, undisturbed, tmp_path):
    lives.live("distil", tmp_path, "features", ("killed_before", "step", 7))
    before = files(tmp_path)
    with RunFolder(tmp_path / "run").held():
        end = lives.live("distil", tmp_path, "features")
    assert end.error.startswith("InUse: ")
    assert f"is in use: process {os.getpid()} on " in end.error
    assert differences(files(tmp_path), before) == []
    goes_on(lives, tmp_path, "features", undisturbed)


def test_a_demo_killed_in_its_report_is_finished_by_the_next_one(lives, tmp_path):
    report = [
        ("killed_in_write", r"index\.html", 1, 5000),
        ("killed_at_file", "synced", r"index\.html", 1),
        ("killed_in_write", r"ldrld-student\.safetensors", 1, 5000),
    ]
    for moment in report:
        end = lives.live("demo", tmp_path, moment)
        assert end.signal == signal.SIGKILL, end.error
        files(tmp_path)
    assert lives.live("demo", tmp_path).error == ""
    there = files(tmp_path / "demo")
    assert "index.html" in there
    assert differences(there["ldrld-student.safetensors"], there["ldrld/student.safetensors"]) == []
