from __future__ import annotations

import pytest
import torch

from stillroom.teachers.bank_rows import join_rows, pack_rows, round_rows, row_bytes, unpack_rows
from tests.teachers.banks import logits_of

BOTH = pytest.mark.parametrize("bits", [16, 8])


def test_rounding_to_16_bits_is_within_the_bound_it_states():
    logits = torch.cat([logits_of(4000), 1e-6 * logits_of(4000, seed=1), 1e4 * torch.rand(4000, 5)])
    off = (round_rows(logits, 16) - logits).abs()
    assert (off <= torch.maximum(2**-11 * logits.abs(), torch.tensor(2**-25))).all()
    assert off.max() > 0


@pytest.mark.parametrize("size", [1e-30, 1e-6, 1.0, 1e4, 1e30])
def test_rounding_to_8_bits_is_within_the_bound_it_states(size):
    logits = size * logits_of(500, classes=100)
    off = (round_rows(logits, 8) - logits).abs()
    low, high = logits.aminmax(dim=1, keepdim=True)
    assert (off <= (high - low) / 510 + 2**-22 * logits.abs().amax(1, keepdim=True)).all()
    assert off.max() > 0.9 * ((high - low) / 510).min()  # the bound is reached
    assert torch.equal(round_rows(logits, 8).amin(1), logits.amin(1))


@BOTH
def test_a_packed_row_has_the_stated_size_and_gives_the_rounded_logits(bits):
    logits = logits_of(classes=30)
    packed = pack_rows(logits, bits)
    assert packed[0].nbytes == row_bytes(30, bits)
    assert torch.equal(unpack_rows(packed), round_rows(logits, bits))


@BOTH
def test_rounding_is_a_matter_of_the_row_alone(bits):
    logits = logits_of()
    logits[[3, 20], 2] = torch.tensor([float("inf"), -1e38])
    one_by_one = torch.cat([unpack_rows(pack_rows(row, bits)) for row in logits.split(1)])
    assert torch.equal(unpack_rows(pack_rows(logits, bits)), one_by_one)
    assert torch.equal(round_rows(logits, bits), one_by_one)


@pytest.mark.parametrize(
    ("bits", "row"),
    [
        (16, [70_000.25, 1.0, 2.0]),
        (16, [float("-inf"), 1.0, 2.0]),
        (8, [float("inf"), 1.0, 2.0]),
        (8, [float("-inf")] * 3),
        (8, [-3e38, 3e38, 1.1]),  # the range is beyond float32
        (8, [0.0, 1e-37, 1.1e-38]),  # the scale is below the normal numbers
    ],
)
def test_a_row_that_cannot_be_rounded_is_kept_exactly(bits, row):
    logits = torch.cat([torch.tensor([row]), logits_of(4, classes=3)])
    packed = pack_rows(logits, bits)
    assert packed.dtype == torch.float32
    assert torch.equal(packed[0], logits[0])
    assert torch.equal(packed[1:], round_rows(logits[1:], bits))


@BOTH
def test_nan_stays_nan_and_leaves_other_rows_alone(bits):
    logits = logits_of()
    logits[5, 1] = float("nan")
    got = round_rows(logits, bits)
    assert got.isnan().nonzero().tolist() == [[5, 1]]
    assert torch.equal(got[5].nan_to_num(), logits[5].nan_to_num())
    assert torch.equal(got[6:], round_rows(logits[6:], bits))


def test_equal_logits_are_exact_in_8_bits():
    logits = torch.tensor([[0.1, 0.1, 0.1], [-7.3, -7.3, -7.3]])
    assert pack_rows(logits, 8).dtype == torch.uint8
    assert torch.equal(round_rows(logits, 8), logits)


@BOTH
def test_rows_of_different_formats_are_joined_without_a_change(bits):
    some, exact = logits_of(), torch.full((2, 5), float("inf"))
    parts = [pack_rows(some, bits), pack_rows(exact, bits)]
    assert torch.equal(unpack_rows(join_rows(parts)), torch.cat([round_rows(some, bits), exact]))
    assert join_rows(parts[:1]).dtype == parts[0].dtype
