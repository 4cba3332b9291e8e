from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from stillroom.data import Augment
from stillroom.errors import InputError
from stillroom.files import write_atomically
from stillroom.teachers import bank, bank_files
from stillroom.teachers.bank_files import BlockPlace
from tests.teachers.banks import KEY, blocks, fill, logits_of, make, rounded, total

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.parametrize("name", ["seed", "precision", "input_format", "augment", "teacher", "bits"])
def test_a_folder_made_for_something_else_is_refused_by_name(tmp_path, name):
    others = {
        "seed": 2,
        "precision": "bf16",
        "input_format": "other",
        "augment": asdict(Augment(pad=2)),
        "teacher": "u",
        "bits": 8,
    }
    other = replace(KEY, **{name: others[name]})
    shutil.copytree(make(tmp_path).files.path, tmp_path / other.digest)
    with pytest.raises(InputError, match=rf"{other.digest}.*\({name} .* there, .* now\)"):
        make(tmp_path, key=other)


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 1}'])
def test_a_damaged_key_is_refused(tmp_path, text):
    (make(tmp_path).files.path / "key.json").write_text(text)
    with pytest.raises(InputError, match="delete th"):
        make(tmp_path)


def test_the_key_on_disk_can_be_read_by_people(tmp_path):
    there = json.loads((make(tmp_path).files.path / "key.json").read_text())
    assert there["seed"] == 1
    assert there["augment"]["pad"] == 4


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make(tmp_path / "file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_bank_without_the_right_to_write_is_refused_before_training(tmp_path):
    there = make(tmp_path)
    there.files.path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            make(tmp_path)
    finally:
        there.files.path.chmod(0o700)


def _truncate(path, others):
    path.write_bytes(path.read_bytes()[:-7])


def _flip_one_bit(path, others):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def _empty(path, others):
    path.write_bytes(b"")


def _take_from_another_epoch(path, others):
    shutil.copy(next(other for other in others if "epoch0002-block0001" in other.name), path)


def _take_a_shape_of_fewer_classes(path, others):
    smaller = make(path.parent.parent / "elsewhere", key=replace(KEY, classes=3))
    fill(smaller, logits_of(classes=3))
    shutil.copy(blocks(smaller)[1], path)


@pytest.mark.parametrize(
    "damage", [_truncate, _flip_one_bit, _empty, _take_from_another_epoch, _take_a_shape_of_fewer_classes]
)
def test_a_damaged_or_foreign_block_is_told_once_and_computed_again(tmp_path, damage):
    logits, first = logits_of(), make(tmp_path)
    fill(first, logits)
    fill(first, logits_of(seed=1), epoch=2)
    for index in (1, 2):
        damage(next(path for path in blocks(first) if f"epoch0001-block000{index}" in path.name), blocks(first))
    said = []
    assert fill(make(tmp_path, said=said), logits, batch=16) == list(range(16, 48))
    assert len(said) == 1
    assert "block0001" in said[0]
    assert torch.equal(make(tmp_path, said=said).read("logits", 1, 0, 50), rounded(logits))
    assert len(said) == 1


def test_the_limit_holds_for_all_banks_together_and_is_told_once(tmp_path):
    logits = logits_of()
    fill(make(tmp_path), logits)
    key, said = replace(KEY, seed=2), []
    block = blocks(make(tmp_path))[0].stat().st_size
    make(tmp_path, key=key)  # its key.json counts as well
    limit = total(tmp_path) + 5 * block // 2
    other = make(tmp_path, key=key, limit=limit, said=said)
    for epoch in range(1, 5):
        fill(other, logits, epoch=epoch)
    assert len(blocks(other)) == 2
    assert total(tmp_path) <= limit
    assert len(said) == 1
    for part in ("limit is reached", f"{limit / 1e9:.3g}", f"{other.needed_bytes / 1e9:.3g} GB", "bank_gb"):
        assert part in said[0]
    assert other.needed_bytes == 3 * 2 * 50 * 5 * 2  # views, epochs, positions, classes, bytes
    assert torch.equal(other.read("logits", 1, 0, 16), rounded(logits[:16]))


def test_room_on_the_disk_is_left_for_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "FREE_BYTES", 10**18)
    monkeypatch.setattr(bank_files, "FREE_FRACTION", 1.0)
    said = []
    full = make(tmp_path, said=said)
    fill(full, logits_of())
    assert blocks(full) == []
    assert len(said) == 1
    assert "kept for checkpoints" in said[0]


PRELUDE = """
import sys, torch
from pathlib import Path
from stillroom.teachers import bank
from stillroom.teachers import bank_files
from stillroom.teachers.bank_rows import round_rows
bank_files.FREE_FRACTION = 0.0
bank.BLOCK = 512
def logits(epoch):
    return 5 * torch.randn(2000, 100, generator=torch.Generator().manual_seed(epoch))
def tell(line):  # in one piece, for two processes write at once
    sys.stdout.write(line + "\\n")
def open_bank(folder, limit=10**9, say=tell):
    key = bank.BankKey("t", "p", None, "format", 1, "32", 100, 2000)
    return bank.TeacherBank(Path(folder), key, views={"logits": bank.View(2000, 9)}, limit_bytes=limit, say=say)
def run(a_bank, epochs):
    for epoch in epochs:
        rows = logits(epoch)
        for first in range(0, 2000, 100):
            if a_bank.read("logits", epoch, first, 100) is None:
                a_bank.write("logits", epoch, first, rows[first : first + 100])
"""


FORKS = """
import os, signal, time
def fork(task, *arguments):
    child = os.fork()
    if not child:
        status = 1
        try:
            task(*arguments)
            status = 0
        finally:
            os._exit(status)
    return child
"""
posix = pytest.mark.skipif(os.name != "posix", reason="forks, SIGKILL and limits of processes are POSIX matters")


def python(code, *arguments):
    """Run code in a process of its own; returns the lines it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + FORKS + code, *map(str, arguments)], text=True, capture_output=True,
        timeout=60, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def opened(monkeypatch):
    """What the other processes open and store: a function from folder to bank, one from epoch to logits."""
    names = {}
    exec(PRELUDE, names)
    monkeypatch.setattr(bank, "BLOCK", 512)
    return names["open_bank"], names["logits"]


@posix
def test_a_disk_that_refuses_a_block_ends_storing_but_not_the_run(tmp_path):
    code = """
import resource
a_bank = open_bank(sys.argv[1])
run(a_bank, [1])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
run(a_bank, [2, 3])
assert torch.equal(a_bank.read("logits", 1, 0, 2000), round_rows(logits(1), 16))
"""
    (line,) = python(code, tmp_path)
    assert "File too large" in line
    assert "stores no more logits" in line
    assert len(list(tmp_path.glob("*/*.safetensors"))) == 4
    assert not list(tmp_path.glob("*/.*"))


@posix
def test_after_a_kill_every_block_is_whole_and_half_a_file_is_never_used(tmp_path, opened):
    code = """
for turn in range(4):
    folder = Path(sys.argv[1], str(turn))
    child = fork(lambda: run(open_bank(folder), range(10_000)))
    while not list(folder.glob("*/logits-*")):
        time.sleep(0.001)
    time.sleep(float(sys.argv[2 + turn]))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    python(code, tmp_path, *(random.uniform(0, 0.2) for _ in range(4)))
    open_bank, logits = opened
    for turn in range(4):
        said = []
        after = open_bank(tmp_path / str(turn), say=said.append)
        assert blocks(after)
        for path in blocks(after):
            epoch, index = (int(digits) for digits in re.findall(r"(?:epoch|block)(\d+)", path.name))
            rows = logits(epoch)[512 * index : 512 * (index + 1)]
            assert torch.equal(after.read("logits", epoch, 512 * index, len(rows)), rounded(rows))
        assert said == []
        assert len(list(after.files.path.glob(".*"))) <= 1


@posix
def test_two_runs_may_fill_the_same_bank_at_once(tmp_path, opened):
    code = """
for child in [fork(lambda: run(open_bank(sys.argv[1]), range(1, 9))) for _ in range(2)]:
    assert os.waitpid(child, 0)[1] == 0
"""
    assert python(code, tmp_path) == []
    open_bank, logits = opened
    after = open_bank(tmp_path)
    for epoch in range(1, 9):
        assert torch.equal(after.read("logits", epoch, 0, 2000), rounded(logits(epoch)))
    assert not list(after.files.path.glob(".*"))


@posix
def test_two_runs_that_write_at_once_keep_to_the_limit_together(tmp_path):
    code = """
def store(first):
    run(open_bank(sys.argv[1], limit=2_000_000), range(first, first + 6))
    sys.stdout.flush()
children = [fork(store, first) for first in (1, 101)]
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""
    lines = python(code, tmp_path)
    assert ["limit is reached" in line for line in lines] == [True, True]
    assert 1_700_000 < total(tmp_path) <= 2_000_000


def test_what_a_killed_run_left_is_removed_when_it_is_old_and_only_then(tmp_path):
    there, names = make(tmp_path), []
    for _ in range(2):
        write_atomically(
            there.files.path_of(BlockPlace("logits", 1, len(names), 0, 1)), lambda aside: names.append(aside)
        )
    old, young, foreign = *names, there.files.path / ".notes.tmp"
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    other = make(tmp_path, key=replace(KEY, seed=9))
    assert other.files.path != there.files.path
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()
