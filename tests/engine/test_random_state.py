from __future__ import annotations

import torch

from stillroom.engine import random_state


def test_random_numbers_go_on_where_they_stopped():
    torch.manual_seed(1)
    state = random_state.random_state()
    first = torch.rand(4)
    random_state.restore_random_state(state)
    assert torch.equal(torch.rand(4), first)
