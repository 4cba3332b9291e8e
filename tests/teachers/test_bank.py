from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillroom.data import ImageSet, Loader
from stillroom.input_format import InputFormat
from stillroom.teachers import bank
from stillroom.teachers.bank import TeacherBank, positions_of
from stillroom.teachers.bank_files import BlockFiles
from tests.teachers.banks import KEY, blocks, fill, logits_of, make

pytestmark = pytest.mark.usefixtures("small_blocks")

FORMAT = InputFormat((0.5,), (0.5,))


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
    assert make(tmp_path).read("logits", 1, 0, 1) is None  # one process alone deals the images out otherwise


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
    fill(make(tmp_path, positions=49), logits[:49], batch=7)  # the last image alone would not make a batch
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
    looks, load = [], BlockFiles.load
    monkeypatch.setattr(BlockFiles, "load", lambda self, *place: looks.append(place) or load(self, *place))
    fill(make(tmp_path), logits_of(), batch=3)  # also with a batch across a stored and a missing block
    assert looks == [("logits", 1, index) for index in range(4)]


def test_a_bank_of_many_classes_has_shorter_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(bank, "BLOCK", 16_384)
    assert make(tmp_path).rows == 16_384
    many = make(tmp_path, key=replace(KEY, classes=21_843))
    assert many.rows * 21_843 * 4 <= 64 * 2**20 < (many.rows + 1) * 21_843 * 4
