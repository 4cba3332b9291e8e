from __future__ import annotations

import pytest

from stillroom.compare.run_length import at_length, method_at_length


def test_a_shorter_run_has_the_whole_schedule():
    whole = {"epochs": 240, "milestones": [150, 180, 210], "warmup_epochs": 20, "lr": 0.1}
    assert at_length(whole, 80, 240) == {"epochs": 80, "milestones": [50, 60, 70], "warmup_epochs": 7, "lr": 0.1}
    assert at_length(whole, 4, 240) == {"epochs": 4, "milestones": [2, 3], "warmup_epochs": 0, "lr": 0.1}
    assert at_length({"milestones": None}, 4, 240) == {"epochs": 4, "milestones": None}


@pytest.mark.parametrize(
    ("text", "shorter"),
    [
        ("1.3*dkd(beta=3, warmup=7)", "1.3*dkd(beta=3, warmup=3)"),
        ("0.1*ce + 2*standardized(ldrld(depth=6, warmup=1))", "0.1*ce + 2*standardized(ldrld(depth=6, warmup=1))"),
        ("kd(temperature=3)", "kd(temperature=3)"),
        ("ldrld(warmup=0)", "ldrld(warmup=0)"),
    ],
)
def test_the_warm_up_of_a_method_keeps_its_share_of_the_run(text, shorter):
    assert method_at_length(text, 16, 40) == shorter
