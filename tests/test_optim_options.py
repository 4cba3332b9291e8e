from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError

NEEDED = {"model": "resnet8", "data": "demo"}


@pytest.mark.parametrize("name", ["lr", "gamma", "layer_decay", "backbone_lr_factor", "bn_momentum"])
def test_a_factor_is_above_zero(name):
    with pytest.raises(InputError, match=f"{name}=0"):
        make_recipe("train", {**NEEDED, name: 0.0})
