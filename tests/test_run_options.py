from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError

NEEDED = {"model": "resnet8", "data": "demo"}


@pytest.mark.parametrize("name", ["checkpoint_every", "checkpoint_steps", "checkpoint_minutes", "accumulate"])
def test_what_counts_something_is_above_zero(name):
    with pytest.raises(InputError, match=f"{name}=0"):
        make_recipe("train", {**NEEDED, name: 0})
