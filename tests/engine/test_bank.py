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

from stillroom.data import Augment, ImageSet, MemoryLoader
from stillroom.engine import bank
from stillroom.engine.bank import TeacherBank, View, positions_of
from stillroom.engine.bank_key import BankKey, bank_key, picture_fingerprint
from stillroom.errors import InputError
from stillroom.files import write_atomically

KEY = BankKey("t", "p", asdict(Augment()), (0.5,) * 3, (0.25,) * 3, seed=1, precision="32", classes=5, count=50)
PLENTY = 10**9


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(bank, "BLOCK", 16)
    monkeypatch.setattr(bank, "FREE_SHARE", 0.0)  # however full the disk of the machine is


def make(folder, *, positions=50, key=KEY, limit=PLENTY, said=None, epochs=2, **place):
    views = {name: View(positions, epochs) for name in ("logits", "logits_strong", "val")}
    say = (lambda text: None) if said is None else said.append
    return TeacherBank(folder, key, views=views, limit_bytes=limit, say=say, **place)


def logits_of(count=50, seed=0, classes=5):
    return 5 * torch.randn(count, classes, generator=torch.Generator().manual_seed(seed))


def fill(a_bank, logits, *, batch=10, start=0, view="logits", epoch=1):
    """Go through an epoch as the loop does; returns the positions that had to be computed."""
    computed = []
    for first in range(start, len(logits), batch):
        rows = logits[first : first + batch]
        if a_bank.read(view, epoch, first, len(rows)) is None:
            a_bank.write(view, epoch, first, rows)
            computed += range(first, first + len(rows))
    return computed


def blocks(a_bank):
    return sorted(a_bank.path.glob("*.safetensors"))


def total(folder):
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("batch", [1, 7, 16, 33, 50])
def test_what_one_run_stores_another_reads_with_any_batch_size(tmp_path, batch):
    logits = logits_of()
    assert fill(make(tmp_path), logits, batch=12) == list(range(50))
    other = make(tmp_path)
    for first in range(0, 50, batch):
        got = other.read("logits", 1, first, min(batch, 50 - first))
        assert got.dtype == torch.float32
        assert torch.equal(got, TeacherBank.rounded(logits[first : first + batch]))
    assert len(blocks(other)) == 4  # 16 + 16 + 16 + 2 positions


def test_a_run_finds_again_what_it_stored_itself(tmp_path):
    a_bank = make(tmp_path)
    assert fill(a_bank, logits_of()) == list(range(50))
    assert fill(a_bank, logits_of()) == []


def test_views_and_epochs_are_kept_apart(tmp_path):
    a_bank = make(tmp_path)
    wanted = {(v, e): logits_of(seed=10 * e + len(v)) for v in ("logits", "logits_strong", "val") for e in (1, 2)}
    for first in range(0, 50, 10):  # side by side, as a method with two views asks for them
        for (view, epoch), logits in wanted.items():
            if epoch == 1:
                assert a_bank.read(view, epoch, first, 10) is None
                a_bank.write(view, epoch, first, logits[first : first + 10])
    for view in ("logits", "logits_strong", "val"):
        assert a_bank.read(view, 2, 0, 50) is None
        fill(a_bank, wanted[view, 2], view=view, epoch=2)
    for (view, epoch), logits in wanted.items():
        assert torch.equal(make(tmp_path).read(view, epoch, 0, 50), TeacherBank.rounded(logits))


def test_logits_that_are_changed_after_they_were_handed_in_are_stored_as_they_were(tmp_path):
    a_bank, logits = make(tmp_path, positions=10), logits_of(10)
    wanted = TeacherBank.rounded(logits)
    for first in (0, 5):
        rows = logits[first : first + 5]
        a_bank.write("logits", 1, first, rows)
        rows.zero_()
    assert torch.equal(a_bank.read("logits", 1, 0, 10), wanted)


def test_what_is_read_can_be_changed_without_changing_the_bank(tmp_path):
    a_bank = make(tmp_path)
    fill(a_bank, logits_of() * 1e6)  # float32 rows, which need no conversion
    a_bank.read("logits", 1, 3, 4).zero_()
    assert torch.equal(a_bank.read("logits", 1, 3, 4), logits_of()[3:7] * 1e6)


def test_the_processes_of_a_run_hold_exactly_the_pictures_their_loaders_show(tmp_path):
    images = ImageSet(torch.zeros(53, 1, 2, 2, dtype=torch.uint8), torch.zeros(53).long(), torch.arange(53), ("a", "b"))
    said = {}
    for rank in (0, 1):
        loader = MemoryLoader(
            images, batch_size=10, mean=[0.5], std=[0.5], shuffle=True, seed=3, rank=rank, world_size=2
        )
        a_bank = make(tmp_path, positions=positions_of(loader), rank=rank, world_size=2)
        at = 0
        for batch in loader.epoch(1):
            a_bank.write("logits", 1, at, batch.ids[:, None].expand(-1, 5))
            at += len(batch.ids)
        said[rank] = make(tmp_path, rank=rank, world_size=2).read("logits", 1, 0, at)[:, 0].long()
    order = loader.order(1)[:50]  # three pictures are too few for two processes
    assert torch.equal(said[0], order[0::2])
    assert torch.equal(said[1], order[1::2])
    assert make(tmp_path).read("logits", 1, 0, 1) is None  # one process alone deals the pictures out otherwise


@pytest.mark.parametrize(("pictures", "batch", "world", "shuffle"), [
    (53, 10, 1, True), (51, 10, 1, True), (53, 10, 2, True), (54, 10, 2, True), (51, 10, 2, False), (52, 6, 3, False),
])  # fmt: skip
def test_positions_are_counted_as_the_loader_deals_them(pictures, batch, world, shuffle):
    images = torch.zeros(pictures, 1, 2, 2, dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(pictures).long(), torch.arange(pictures), ("a", "b"))
    for rank in range(world):
        loader = MemoryLoader(
            data, batch_size=batch, mean=[0.5], std=[0.5], shuffle=shuffle, rank=rank, world_size=world
        )
        assert positions_of(loader) == sum(len(shown.ids) for shown in loader.epoch(1))


def test_rounding_is_within_the_bound_it_states():
    logits = torch.cat([logits_of(4000), 1e-6 * logits_of(4000, seed=1), 1e4 * torch.rand(4000, 5)])
    off = (TeacherBank.rounded(logits) - logits).abs()
    assert (off <= torch.maximum(2**-11 * logits.abs(), torch.tensor(2**-25))).all()
    assert off.max() > 0
    assert torch.equal(TeacherBank.rounded(TeacherBank.rounded(logits)), TeacherBank.rounded(logits))


def test_rows_beyond_half_precision_stay_exact_and_rounding_is_a_matter_of_the_row_alone(tmp_path):
    logits = logits_of()
    logits[[3, 20], 2] = torch.tensor([70_000.25, -1e30])
    fill(make(tmp_path), logits)
    got = make(tmp_path).read("logits", 1, 0, 50)
    assert torch.equal(got[[3, 20]], logits[[3, 20]])
    one_by_one = torch.cat([TeacherBank.rounded(row) for row in logits.split(1)])
    assert torch.equal(got, one_by_one)
    sizes = [path.stat().st_size for path in blocks(make(tmp_path))]
    assert sizes[0] == sizes[1] == sizes[2] + 16 * 5 * 2  # only blocks with such a row are in float32


def test_a_teacher_that_answers_nan_is_not_made_to_look_healthy(tmp_path):
    logits = logits_of()
    logits[5, 1] = float("nan")
    fill(make(tmp_path), logits)
    got = make(tmp_path).read("logits", 1, 0, 50)
    assert got.isnan().nonzero().tolist() == [[5, 1]]
    assert torch.equal(got.nan_to_num(), TeacherBank.rounded(logits).nan_to_num())


def test_half_precision_logits_of_a_teacher_come_back_unchanged(tmp_path):
    logits = logits_of().bfloat16()
    fill(make(tmp_path), logits)
    assert torch.equal(make(tmp_path).read("logits", 1, 0, 50), logits.float())


def test_a_resume_inside_a_block_leaves_it_out_and_stores_the_later_ones(tmp_path):
    logits = logits_of()
    fill(make(tmp_path), logits[:20])  # stopped in the second block
    resumed = make(tmp_path)
    assert fill(resumed, logits, start=20) == list(range(20, 50))
    assert [path.name.split("-")[2] for path in blocks(resumed)] == ["block0000", "block0002", "block0003"]
    # The next run computes only the batches that touch the missing block, positions 16 to 31, and completes it.
    assert fill(make(tmp_path), logits, batch=8) == list(range(16, 32))
    assert torch.equal(make(tmp_path).read("logits", 1, 0, 50), TeacherBank.rounded(logits))


def test_a_resume_at_the_edge_of_a_block_loses_nothing(tmp_path):
    fill(make(tmp_path), logits_of()[:16], batch=8)
    assert fill(make(tmp_path), logits_of(), start=16, batch=8) == list(range(16, 50))
    assert len(blocks(make(tmp_path))) == 4


def test_a_batch_size_that_reaches_further_into_the_epoch_completes_the_last_block(tmp_path):
    logits = logits_of()
    fill(make(tmp_path, positions=49), logits[:49], batch=7)  # the last picture alone would not make a batch
    longer = make(tmp_path)
    assert fill(longer, logits, batch=4) == [48, 49]
    assert torch.equal(make(tmp_path).read("logits", 1, 0, 50), TeacherBank.rounded(logits))
    assert fill(make(tmp_path, positions=49), logits[:49], batch=7) == []


def test_a_block_that_another_run_finishes_meanwhile_is_found(tmp_path):
    ahead, behind = make(tmp_path), make(tmp_path)
    assert behind.read("logits", 1, 0, 8) is None
    fill(ahead, logits_of())
    assert behind.read("logits", 1, 8, 8) is None  # looked up once a block
    assert behind.read("logits", 1, 16, 8) is not None


def test_an_epoch_that_is_not_stored_costs_one_look_a_block(tmp_path, monkeypatch):
    fill(make(tmp_path), logits_of()[:16], batch=8)
    looks, load = [], TeacherBank._load
    monkeypatch.setattr(TeacherBank, "_load", lambda self, *place: looks.append(place) or load(self, *place))
    fill(make(tmp_path), logits_of(), batch=3)  # also with a batch across a stored and a missing block
    assert looks == [("logits", 1, index) for index in range(4)]


@pytest.mark.parametrize("name", ["seed", "precision", "mean", "augment", "teacher"])
def test_a_folder_made_for_something_else_is_refused_by_name(tmp_path, name):
    others = {"seed": 2, "precision": "bf16", "mean": (0.4,) * 3, "augment": asdict(Augment(pad=2)), "teacher": "u"}
    other = replace(KEY, **{name: others[name]})
    shutil.copytree(make(tmp_path).path, tmp_path / other.digest)
    with pytest.raises(InputError, match=rf"{other.digest}.*\({name} .* there, .* now\)"):
        make(tmp_path, key=other)


@pytest.mark.parametrize("text", ["{", "[]", '{"seed": 1}'])
def test_a_damaged_key_is_refused(tmp_path, text):
    (make(tmp_path).path / "key.json").write_text(text)
    with pytest.raises(InputError, match="delete th"):
        make(tmp_path)


def test_the_key_on_disk_can_be_read_by_people(tmp_path):
    there = json.loads((make(tmp_path).path / "key.json").read_text())
    assert there["seed"] == 1
    assert there["augment"]["pad"] == 4


def test_a_folder_that_cannot_be_made_is_refused_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        make(tmp_path / "file")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_bank_without_the_right_to_write_is_refused_before_training(tmp_path):
    there = make(tmp_path)
    there.path.chmod(0o500)
    try:
        with pytest.raises(InputError, match="cannot be written"):
            make(tmp_path)
    finally:
        there.path.chmod(0o700)


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
    assert torch.equal(make(tmp_path, said=said).read("logits", 1, 0, 50), TeacherBank.rounded(logits))
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
    assert torch.equal(other.read("logits", 1, 0, 16), TeacherBank.rounded(logits[:16]))


def test_room_on_the_disk_is_left_for_checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "FREE_BYTES", 10**18)
    monkeypatch.setattr(bank, "FREE_SHARE", 1.0)
    said = []
    full = make(tmp_path, said=said)
    fill(full, logits_of())
    assert blocks(full) == []
    assert len(said) == 1
    assert "kept for checkpoints" in said[0]


PRELUDE = """
import sys, torch
from pathlib import Path
from stillroom.engine import bank
bank.FREE_SHARE = 0.0
bank.BLOCK = 512
def logits(epoch):
    return 5 * torch.randn(2000, 100, generator=torch.Generator().manual_seed(epoch))
def open_bank(folder, limit=10**9, say=print):
    key = bank.BankKey("t", "p", None, (0.5,), (0.5,), 1, "32", 100, 2000)
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
assert torch.equal(a_bank.read("logits", 1, 0, 2000), a_bank.rounded(logits(1)))
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
            assert torch.equal(after.read("logits", epoch, 512 * index, len(rows)), after.rounded(rows))
        assert said == []
        assert len(list(after.path.glob(".*"))) <= 1


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
        assert torch.equal(after.read("logits", epoch, 0, 2000), after.rounded(logits(epoch)))
    assert not list(after.path.glob(".*"))


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
        write_atomically(there._file("logits", 1, len(names)), lambda aside: names.append(aside))
    old, young, foreign = *names, there.path / ".notes.tmp"
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    other = make(tmp_path, key=replace(KEY, seed=9))
    assert other.path != there.path
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_a_bank_of_many_classes_has_shorter_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "BLOCK", 16_384)
    assert make(tmp_path).rows == 16_384
    many = make(tmp_path, key=replace(KEY, classes=21_843))
    assert many.rows * 21_843 * 4 <= 64 * 2**20 < (many.rows + 1) * 21_843 * 4


def test_pictures_and_ids_are_in_the_fingerprint():
    images = torch.randint(0, 256, (6, 3, 4, 4), dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(6).long(), torch.arange(6), ("a", "b"))
    pixel, ids = images.clone(), torch.arange(6)
    pixel[5, 2, 3, 3] ^= 1
    ids[5] = 9
    others = [replace(data, images=pixel), replace(data, ids=ids), replace(data, images=images.view(6, 3, 2, 8))]
    prints = {picture_fingerprint(one) for one in (data, *others)} | {picture_fingerprint(data, data)}
    assert len(prints) == 5
    assert picture_fingerprint(replace(data, images=images.clone(), ids=torch.arange(6))) == picture_fingerprint(data)
    assert picture_fingerprint(replace(data, labels=torch.ones(6).long())) == picture_fingerprint(data)


def test_everything_that_decides_the_logits_is_in_the_key(tiny_data):
    given = {"teacher": "t", "seed": 1, "precision": "32"}
    key = bank_key(tiny_data, **given)
    assert bank_key(tiny_data, **given).digest == key.digest
    val = replace(tiny_data.val, images=255 - tiny_data.val.images)
    others = [
        *(bank_key(tiny_data, **given | change) for change in ({"teacher": "u"}, {"seed": 2}, {"precision": "bf16"})),
        *(
            bank_key(replace(tiny_data, **change), **given)
            for change in ({"augment": Augment(pad=2)}, {"mean": (0.5, 0.5, 0.4)}, {"std": (0.2,) * 3}, {"val": val})
        ),
    ]
    assert len({key.digest, *(other.digest for other in others)}) == 8
