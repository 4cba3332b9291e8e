from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError

NEEDED = {"model": "resnet8", "data": "demo"}


@pytest.mark.parametrize(
    "name", ["val_fraction", "crop_fraction", "min_scale", "colour_jitter", "erase", "skip_broken"]
)
def test_a_fraction_is_not_above_one(name):
    with pytest.raises(InputError, match=rf"{name}=1\.5"):
        make_recipe("train", {**NEEDED, name: 1.5})
