"""Runs that decode images from files: after kills, signals and lost files they end as if nothing had happened."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from tests.durability.whole import differences, files

SETTINGS = {
    "model": "tests.durability.work:student", "source": "files", "image_size": 10, "min_scale": 0.3, "batch_size": 18,
    "epochs": 3, "checkpoint_steps": 2, "lr": 0.05, "accelerator": "cpu", "precision": "32",
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Four classes of 20 training and 6 validation images of many sizes, JPEG and PNG."""
    folder, draw = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for split, count in (("train", 20), ("val", 6)):
        for label, colour in enumerate(draw.integers(40, 216, (4, 3))):
            (folder / split / f"class{label}").mkdir(parents=True)
            for place in range(count):
                height, width = draw.integers(12, 30, 2)
                pixels = (colour + draw.integers(-40, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
                suffix = "png" if place % 3 == 0 else "jpg"
                Image.fromarray(pixels).save(folder / split / f"class{label}" / f"{place}.{suffix}")
    return folder


def words(images, folder, workers, **settings):
    """The command that trains."""
    chosen = {**SETTINGS, "data": images, "workers": workers, "runs": folder, "name": "run", **settings}
    return ["train", *(str(w) for name, value in chosen.items() if value is not None for w in (f"--{name}", value))]


def said(folder):
    return (folder / "said.txt").read_text()


@pytest.fixture(scope="module")
def undisturbed(lives, images, tmp_path_factory):
    """Files of a run that nobody disturbed, for each precision; it decodes in its own process."""
    found = {}
    for precision in ("32", "bf16"):
        folder = tmp_path_factory.mktemp("whole")
        end = lives.live("command", folder, words(images, folder, 0, precision=precision))
        assert end.error == "SystemExit: 0", said(folder)
        found[precision] = files(folder / "run")
    return found


def ends_alike(lives, command, folder, whole):
    """The same command once more ends where the undisturbed run ended."""
    end = lives.live("command", folder, command)
    assert end.error == "SystemExit: 0", said(folder)
    found = differences(files(folder / "run"), whole)
    assert [place for place in found if not place.endswith(("/runs", "/workers"))] == []


def alive(group):
    """The processes of a group that still run."""
    found = []
    for process in psutil.process_iter(["status"]):
        try:
            same = os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE
        except ProcessLookupError:
            continue
        found += [process.pid] if same else []
    return found


def assert_all_end(group, seconds=30):
    limit = time.monotonic() + seconds  # PyTorch's workers look for their parent every five seconds
    while alive(group) and time.monotonic() < limit:
        time.sleep(0.2)
    assert alive(group) == []


@pytest.mark.parametrize("precision", ["32", "bf16"])  # every processor computes bf16, if slowly
def test_a_run_killed_at_random_moments_ends_alike_with_any_number_of_workers(
    lives, images, undisturbed, tmp_path, precision
):
    chance, places = random.Random(17), []
    for workers in (3, 0, 1):
        trouble = ("killed_before", "step", chance.randint(3, 7))
        end = lives.live("command", tmp_path, words(images, tmp_path, workers, precision=precision), trouble)
        assert end.signal == signal.SIGKILL, said(tmp_path)
        progress = torch.load(tmp_path / "run" / "checkpoint" / "last.pt", weights_only=True)["progress"]
        places.append((progress["epoch"], progress["step"]))
        groups = [end.group] if workers == 3 else []
    assert any(step for _, step in places)
    assert len(set(places)) > 1
    ends_alike(lives, words(images, tmp_path, 2, precision=precision), tmp_path, undisturbed[precision])
    for group in groups:
        assert_all_end(group)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_a_signal_to_the_run_and_its_workers_saves_and_leaves_no_process(
    lives, images, undisturbed, tmp_path, number, workers
):
    trouble = ("group_told_before", "step", 7, int(number))
    end = lives.live("command", tmp_path, words(images, tmp_path, workers), trouble)
    assert end.error == f"SystemExit: {128 + number}", said(tmp_path)
    assert "everything is saved" in said(tmp_path)
    assert_all_end(end.group)
    ends_alike(lives, words(images, tmp_path, 0), tmp_path, undisturbed["32"])


def test_a_worker_that_is_killed_is_named_in_one_line_and_the_same_command_continues(
    lives, images, undisturbed, tmp_path
):
    command = words(images, tmp_path, 2)
    end = lives.live("command", tmp_path, command, ("worker_killed_before", "step", 6))
    assert end.error == "SystemExit: 1", said(tmp_path)
    (killed,) = re.findall(r"killed: (\d+)", said(tmp_path))
    (line,) = [line for line in said(tmp_path).splitlines() if "error" in line]
    assert line.startswith(f"stillroom: error: the worker process {killed} that decodes images died (")
    assert line.endswith("The same command continues from the last checkpoint")
    assert_all_end(end.group)
    ends_alike(lives, command, tmp_path, undisturbed["32"])
    end = lives.live("measure", tmp_path / "run", images, ("worker_killed_before", "batch norm", 4))
    assert re.match(r"WorkerDied: the worker process \d+ that decodes images died", end.error)


@pytest.mark.parametrize(("workers", "size"), [(0, -1), (2, -1), (0, 100), (2, 100)])
def test_a_lost_file_ends_the_run_with_its_name_and_the_repaired_set_continues(
    lives, images, undisturbed, tmp_path, workers, size
):
    mine = shutil.copytree(images, tmp_path / "images")
    lost = mine / "train" / "class2" / "4.jpg"
    content, command = lost.read_bytes(), words(mine, tmp_path, workers)
    # After the fifth step of the first epoch every image is needed again.
    end = lives.live("command", tmp_path, command, ("file_lost_before", "step", 5, str(lost), size))
    assert end.error == "SystemExit: 2", said(tmp_path)
    (line,) = [line for line in said(tmp_path).splitlines() if "error" in line]
    assert str(lost) in line
    assert ("has vanished" if size < 0 else "was cut short") in line
    assert "put the file back as it was" in line
    again = lives.live("command", tmp_path, command)
    assert again.error == "SystemExit: 2", said(tmp_path)  # nothing is left out silently
    lost.write_bytes(content)
    end = lives.live("command", tmp_path, command)
    assert end.error == "SystemExit: 0", said(tmp_path)
    found = differences(files(tmp_path / "run"), undisturbed["32"])
    assert [place for place in found if not place.endswith(("/runs", "/workers", "/data"))] == []


def test_a_bank_of_images_from_files_is_filled_and_read_alike_by_any_number_of_workers(lives, images, tmp_path):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    assert lives.live("command", teacher, words(images, teacher, 0, epochs=1)).error == "SystemExit: 0"
    runs = {}
    for name, bank, workers in (("none", None, 2), ("filled", "one", 2), ("read", "one", 0), ("own", "two", 0)):
        folder = tmp_path / name
        folder.mkdir()
        command = words(images, folder, workers, teacher=teacher / "run", student=SETTINGS["model"], model=None,
                        method="kd", bank=None if bank is None else tmp_path / bank)  # fmt: skip
        end = lives.live("command", folder, ["distill", *command[1:]])
        assert end.error == "SystemExit: 0", said(folder)
        runs[name] = files(folder / "run")
    weights = {name: found["student.safetensors"]["tensors"] for name, found in runs.items()}
    assert differences(weights["filled"], weights["read"]) == []
    assert differences(weights["filled"], weights["own"]) == []
    assert weights["none"].keys() == weights["read"].keys()
    assert differences(files(tmp_path / "one"), files(tmp_path / "two")) == []
