"""A full disk stops a run with one clear line, costs nothing that was saved, and the run goes on when there is room."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from tests.durability.whole import asides, files, goes_on, in_bytes, read

UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


def needed(error):
    """The bytes that an error says are needed."""
    number, unit = re.search(r"it needs ([0-9.]+) (kB|MB|GB), [0-9.]+ (?:kB|MB|GB) are free there", error).groups()
    return float(number) * UNITS[unit]


@pytest.mark.parametrize(
    ("name", "count", "share", "epoch"),
    [
        (r"last\.pt", 1, 0.5, None),
        (r"last\.pt", 2, 0.0, 2),
        (r"last\.pt", 3, 0.2, 3),
        (r"last\.pt", 3, 0.99, 3),
        (r"metrics\.jsonl", 2, 0.3, 2),
        (r"(candidate|best)\.safetensors", 1, 0.5, None),
        (r"student\.safetensors", 1, 0.9, 5),
        (r"summary\.json", 1, 0.5, 5),
    ],
)
def test_a_write_that_finds_no_room_says_how_much_it_needs_and_loses_nothing(
    lives, undisturbed, tmp_path, name, count, share, epoch
):
    whole = undisturbed["features"]
    end = lives.live("distil", tmp_path, "features", in_bytes(("full_disk_in_write", name, count, share), whole))
    assert end.error.startswith("InputError: ")
    assert re.search(rf"{name} could not be written \(File too large\)", end.error)
    assert "make room and run the same command again" in end.error
    size = whole.size(name)
    assert (0.2 if name == r"metrics\.jsonl" else 0.9) * size < needed(end.error) < 1.2 * size + 100
    files(tmp_path)
    assert asides(tmp_path) == []
    last = tmp_path / "run" / "checkpoint" / "last.pt"
    assert (read(last)["progress"]["epoch"] if last.exists() else None) == epoch
    goes_on(lives, tmp_path, "features", undisturbed)


@pytest.mark.parametrize("name", [r"environment\.json", r"inputs\.json", r"config\.yaml"])
def test_a_run_that_could_not_even_begin_can_begin_later(lives, undisturbed, tmp_path, name):
    trouble = in_bytes(("full_disk_in_write", name, 1, 0.5), undisturbed["features"])
    end = lives.live("distil", tmp_path, "features", trouble)
    assert re.match(r"InputError: run folder \S+ cannot be written \(File too large\)", end.error)
    goes_on(lives, tmp_path, "features", undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root mounts disks")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "stillroom-test", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no disk can be mounted here")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_previous_checkpoint_survives_a_disk_that_is_full(lives, undisturbed, small_disk):
    end = lives.live("distil_while_the_disk_fills", small_disk, "features", 3, 8192)
    assert end.error.startswith("InputError: ")
    assert "last.pt could not be written (No space left on device)" in end.error
    assert "8.1 kB are free there" in end.error
    assert needed(end.error) == pytest.approx(undisturbed["features"].size(r"last\.pt"), rel=0.1)
    assert read(small_disk / "run" / "checkpoint" / "last.pt")["progress"]["epoch"] == 3
    again = lives.live("distil", small_disk, "features")
    assert re.search(r"checkpoints need [0-9.]+ MB, [0-9.]+ kB are free; make room", again.error)
    (small_disk / "filler.bin").unlink()
    goes_on(lives, small_disk, "features", undisturbed)
