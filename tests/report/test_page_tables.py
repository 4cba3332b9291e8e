from __future__ import annotations

import pytest

from stillroom.report.page_tables import short_count


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (512, "512"), (999.6, "1 k"), (20_588, "20.6 k"), (1_233_540, "1.23 M"), (4.1e9, "4.1 G")],
)
def test_counts_have_three_digits(count, text):
    assert short_count(count) == text
