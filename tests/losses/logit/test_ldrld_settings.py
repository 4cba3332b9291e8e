"""The weights of LDRLD's pairs of ranks against the public code's, and the settings that cannot be."""

from __future__ import annotations

import pytest
import torch

from stillroom.losses.logit.ldrld_settings import LDRLDSettings, adaptive_decay_weights
from tests.golden import arrays, read


@pytest.mark.parametrize("depth", [2, 3, 5, 7, 9])
def test_adaptive_decay_weights_equal_the_published_codes(depth: int) -> None:
    table, stored = adaptive_decay_weights(depth), arrays("ldrld")
    ranks = torch.from_numpy(stored[f"adw_d{depth}_pairs_rank1based"]) - 1
    expected = torch.from_numpy(stored[f"adw_d{depth}_weights"]).double()
    torch.testing.assert_close(table[ranks[:, 0], ranks[:, 1]], expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(table, table.t())
    assert not table.diagonal().any()


def test_adaptive_decay_weights_of_depth_nine_by_name() -> None:
    table = adaptive_decay_weights(9)
    for ranks, weight in read("ldrld")["adw_d9_table"].items():
        i, j = map(int, ranks.split(","))
        assert table[i - 1, j - 1].item() == pytest.approx(weight, rel=1e-12)


def test_without_its_two_factors_every_pair_weighs_one() -> None:
    plain = adaptive_decay_weights(4, LDRLDSettings(irw=False, erd=False))
    assert torch.equal(plain, 1 - torch.eye(4, dtype=torch.float64))


def test_the_depth_is_checked_where_it_is_known() -> None:
    assert [LDRLDSettings().depth_for(classes) for classes in (5, 100)] == [5, 7]
    with pytest.raises(ValueError, match="depth is 1"):
        adaptive_decay_weights(1)
    with pytest.raises(ValueError, match="depth is 9 but student_logits has C = 8"):
        LDRLDSettings(depth=9).depth_for(8)
