from __future__ import annotations

import pytest

from stillroom.formatting import counted, duration


@pytest.mark.parametrize(("seconds", "text"), [(8.26, "8.3 s"), (245, "4:05"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "what", "text"),
    [(1, "epoch", "1 epoch"), (0, "seed", "0 seeds"), (2, "class", "2 classes"), (1200, "step", "1,200 steps")],
)
def test_counts_have_their_nouns_number(count, what, text):
    assert counted(count, what) == text
