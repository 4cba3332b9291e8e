from __future__ import annotations

import pytest

from stillroom.formatting import counted, duration, short_count, size_in_words


@pytest.mark.parametrize(("seconds", "text"), [(8.26, "8.3 s"), (245, "4:05"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "what", "text"),
    [(1, "epoch", "1 epoch"), (0, "seed", "0 seeds"), (2, "class", "2 classes"), (1200, "step", "1,200 steps")],
)
def test_counts_have_their_nouns_number(count, what, text):
    assert counted(count, what) == text


@pytest.mark.parametrize(
    ("count", "up", "words"),
    [
        (0, False, "0 kB"),
        (1, True, "0.1 kB"),
        (1_234_567, True, "1.3 MB"),
        (1_299_999, False, "1.2 MB"),
        (5e10, True, "50 GB"),
    ],
)
def test_needs_are_rounded_up_and_room_is_rounded_down(count, up, words):
    assert size_in_words(count, up=up) == words


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (512, "512"), (999.6, "1 k"), (20_588, "20.6 k"), (1_233_540, "1.23 M"), (4.1e9, "4.1 G")],
)
def test_counts_have_three_digits(count, text):
    assert short_count(count) == text
