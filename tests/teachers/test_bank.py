from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillroom.data import ImageSet, Loader
from stillroom.input_format import InputFormat
from stillroom.teachers import bank, bank_rows
from stillroom.teachers.bank import TeacherBank, View, positions_of
from stillroom.teachers.bank_files import BlockFiles
from tests.teachers.banks import KEY, PLENTY, blocks, fill, logits_of, make, rounded

pytestmark = pytest.mark.usefixtures("small_blocks")

FORMAT = InputFormat((0.5,), (0.5,))


@pytest.mark.parametrize("batch", [1, 7, 16, 33, 50])
@pytest.mark.parametrize("bits", [16, 8])
def test_what_one_run_stores_another_reads_with_any_batch_size(tmp_path, batch, bits):
    logits, key = logits_of(), replace(KEY, bits=bits)
    assert fill(make(tmp_path, key=key), logits, batch=12) == list(range(50))
    other = make(tmp_path, key=key)
    for first in range(0, 50, batch):
        got = other.read("logits", 1, first, min(batch, 50 - first))
        assert got.dtype == torch.float32
        assert torch.equal(got, rounded(logits[first : first + batch], bits))
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
        assert torch.equal(make(tmp_path).read(view, epoch, 0, 50), rounded(logits))


def test_logits_that_are_changed_after_they_were_handed_in_are_stored_as_they_were(tmp_path):
    a_bank, logits = make(tmp_path, positions=10), logits_of(10)
    wanted = rounded(logits)
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


def test_the_processes_of_a_run_hold_exactly_the_images_their_loaders_show(tmp_path):
    images = ImageSet(torch.zeros(53, 1, 2, 2, dtype=torch.uint8), torch.zeros(53).long(), torch.arange(53), ("a", "b"))
    said = {}
    for rank in (0, 1):
        loader = Loader(
            images,
            batch_size=11,
            input_format=FORMAT,
            shuffle=True,
            seed=3,
            rank=rank,
            world_size=2,
        )
        a_bank = make(tmp_path, positions=positions_of(loader), rank=rank, world_size=2)
        at = 0
        for step, batch in enumerate(loader.epoch(1)):
            assert at == loader.own_before(step)
            a_bank.write("logits", 1, at, batch.ids[:, None].expand(-1, 5))
            at += len(batch.ids)
        said[rank] = make(tmp_path, rank=rank, world_size=2).read("logits", 1, 0, at)[:, 0].long()
    order = loader.order(1)
    assert torch.equal(said[0], order[0::2])
    assert torch.equal(said[1], order[1::2])
    alone = make(tmp_path, positions=53).read("logits", 1, 0, 53)[:, 0].long()
    assert torch.equal(alone, order)


@pytest.mark.parametrize(("count", "batch", "world", "shuffle"), [
    (53, 10, 1, True), (51, 10, 1, True), (53, 10, 2, True), (54, 10, 2, True), (51, 10, 2, False), (52, 6, 3, False),
    (53, 13, 2, True), (54, 26, 4, True),
])  # fmt: skip
def test_positions_are_counted_as_the_loader_deals_them(count, batch, world, shuffle):
    images = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(count).long(), torch.arange(count), ("a", "b"))
    for rank in range(world):
        loader = Loader(
            data,
            batch_size=batch,
            input_format=FORMAT,
            shuffle=shuffle,
            rank=rank,
            world_size=world,
        )
        assert positions_of(loader) == sum(len(shown.ids) for shown in loader.epoch(1) if not shown.stand_in)


@pytest.mark.parametrize(("bits", "saved"), [(16, 5 * 2), (8, 5 * 4 - 5 - 8)])
def test_only_blocks_with_a_row_that_stays_exact_are_in_float32(tmp_path, bits, saved):
    logits, key = logits_of(), replace(KEY, bits=bits)
    logits[[3, 20], 2] = torch.tensor([float("inf"), float("-inf")])
    fill(make(tmp_path, key=key), logits)
    got = make(tmp_path, key=key).read("logits", 1, 0, 50)
    assert torch.equal(got[[3, 20]], logits[[3, 20]])
    assert torch.equal(got, rounded(logits, bits))
    sizes = [path.stat().st_size for path in blocks(make(tmp_path, key=key))]
    assert sizes[0] == sizes[1]
    assert sizes[0] - sizes[2] == pytest.approx(16 * saved, abs=8)  # the names of the formats differ in length


def test_a_teacher_that_answers_nan_is_not_made_to_look_healthy(tmp_path):
    logits = logits_of()
    logits[5, 1] = float("nan")
    fill(make(tmp_path), logits)
    got = make(tmp_path).read("logits", 1, 0, 50)
    assert got.isnan().nonzero().tolist() == [[5, 1]]
    assert torch.equal(got.nan_to_num(), rounded(logits).nan_to_num())


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
    assert torch.equal(make(tmp_path).read("logits", 1, 0, 50), rounded(logits))


def test_a_resume_at_the_edge_of_a_block_loses_nothing(tmp_path):
    fill(make(tmp_path), logits_of()[:16], batch=8)
    assert fill(make(tmp_path), logits_of(), start=16, batch=8) == list(range(16, 50))
    assert len(blocks(make(tmp_path))) == 4


@pytest.mark.parametrize("bits", [16, 8])
def test_a_batch_size_that_reaches_further_into_the_epoch_completes_the_last_block(tmp_path, bits):
    logits, key = logits_of(), replace(KEY, bits=bits)
    logits[40] *= 1e5  # beyond float16
    fill(make(tmp_path, positions=49, key=key), logits[:49], batch=7)  # the last image alone would not make a batch
    longer = make(tmp_path, key=key)
    assert fill(longer, logits, batch=4) == [48, 49]
    assert torch.equal(make(tmp_path, key=key).read("logits", 1, 0, 50), rounded(logits, bits))
    assert fill(make(tmp_path, positions=49, key=key), logits[:49], batch=7) == []


def test_a_block_that_another_run_finishes_meanwhile_is_found(tmp_path):
    ahead, behind = make(tmp_path), make(tmp_path)
    assert behind.read("logits", 1, 0, 8) is None
    fill(ahead, logits_of())
    assert behind.read("logits", 1, 8, 8) is None  # looked up once a block
    assert behind.read("logits", 1, 16, 8) is not None


def test_an_epoch_that_is_not_stored_costs_one_look_a_block(tmp_path, monkeypatch):
    fill(make(tmp_path), logits_of()[:16], batch=8)
    looks, load = [], BlockFiles.load
    monkeypatch.setattr(BlockFiles, "load", lambda self, *place: looks.append(place[0][:3]) or load(self, *place))
    fill(make(tmp_path), logits_of(), batch=3)  # also with a batch across a stored and a missing block
    assert looks == [("logits", 1, index) for index in range(4)]


def test_a_bank_of_many_classes_has_shorter_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "BLOCK", 16_384)
    assert make(tmp_path).rows == 16_384
    many = make(tmp_path, key=replace(KEY, classes=21_843))
    assert many.rows * 21_843 * 4 <= 64 * 2**20 < (many.rows + 1) * 21_843 * 4


def fill_as(folder, logits, rank, world_size, **options):
    """What one of several processes does in an epoch; returns its positions that it had to compute."""
    own = logits[rank::world_size]
    a_bank = make(folder, positions=len(own), rank=rank, world_size=world_size, **options)
    return fill(a_bank, own, batch=4)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("readers", [1, 2, 5])
def test_what_three_processes_store_any_number_reads(tmp_path, readers, bits):
    logits, key = logits_of(131), replace(KEY, bits=bits)
    logits[70] = float("nan")  # its block is in float32, the others are packed
    for rank in range(3):
        fill_as(tmp_path, logits, rank, 3, key=key)
    for rank in range(readers):
        own = rounded(logits[rank::readers], bits)
        a_bank = make(tmp_path, positions=len(own), rank=rank, world_size=readers, key=key)
        got = a_bank.read("logits", 1, 0, len(own))
        assert torch.equal(got.nan_to_num(7.0), own.nan_to_num(7.0))
        assert fill_as(tmp_path, logits, rank, readers, key=key) == []
    assert len(blocks(make(tmp_path, key=key))) == 3 * 3  # nothing is stored twice


def test_what_two_processes_began_one_completes(tmp_path):
    logits = logits_of(90)
    fill_as(tmp_path, logits, 0, 2)  # 45 rows in 3 blocks
    fill_as(tmp_path, logits[:50], 1, 2)  # killed after one block and 9 rows; its last file is never there
    kept = [path for path in blocks(make(tmp_path)) if "rank1of2" in path.name]
    assert len(kept) == 2
    kept[1].unlink()
    computed = fill(make(tmp_path, positions=90), logits, batch=8)
    assert computed == list(range(32, 90))  # each block of one process needs both stripes
    later = make(tmp_path, positions=90)
    assert torch.equal(later.read("logits", 1, 0, 90), rounded(logits))
    for rank in (0, 1):  # the two go on with the rows of the one
        assert fill_as(tmp_path, logits, rank, 2) == []


def test_an_epoch_of_two_processes_that_lacks_its_last_image_is_completed_by_one(tmp_path):
    logits = logits_of(45)
    for rank in (0, 1):
        fill_as(tmp_path, logits[:44], rank, 2)
    assert fill(make(tmp_path, positions=45), logits, batch=4) == [44]
    assert torch.equal(make(tmp_path, positions=45).read("logits", 1, 0, 45), rounded(logits))


def test_rows_of_other_processes_are_read_in_parts_and_their_files_verified_once(tmp_path, monkeypatch):
    logits = logits_of(120)
    for rank in range(3):
        fill_as(tmp_path, logits, rank, 3)
    hashed, facts = [], BlockFiles._facts
    monkeypatch.setattr(BlockFiles, "_facts", lambda *given: hashed.append(given[3] is None) or facts(*given))
    a_bank = make(tmp_path, positions=120)
    for first in range(0, 120, 8):
        a_bank.read("logits", 1, first, 8)
        assert sum(len(block) for block in a_bank._known["logits"].values() if block is not None) <= 2 * 16
    assert sum(hashed) == 9 < len(hashed)


def test_a_damaged_file_of_another_number_of_processes_is_not_used(tmp_path):
    logits, said = logits_of(), []
    for rank in (0, 1):
        fill_as(tmp_path, logits, rank, 2)
    path = next(path for path in blocks(make(tmp_path)) if "block0000-rank1of2" in path.name)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert fill(make(tmp_path, said=said), logits, batch=16) == list(range(32))
    assert len(said) == 1
    assert torch.equal(make(tmp_path).read("logits", 1, 0, 50), rounded(logits))


def test_an_epoch_of_imagenet_has_at_most_1_4_gb_with_8_bits(tmp_path):
    key = replace(KEY, classes=1000, count=1_281_167, bits=8)
    epoch = TeacherBank(
        tmp_path, key, views={"logits": View(1_281_167, 1)}, limit_bytes=PLENTY, say=lambda _: None
    ).needed_bytes
    stored = make(tmp_path / "one", key=key, positions=16)
    fill(stored, logits_of(16, classes=1000), batch=16)
    (path,) = blocks(stored)
    header = path.stat().st_size - 16 * bank_rows.row_bytes(1000, 8)
    assert 0 < header < 1000
    assert epoch == 1_281_167 * bank_rows.row_bytes(1000, 8)
    assert epoch + header * (1_281_167 // 16_384 + 1) <= 1.4e9
