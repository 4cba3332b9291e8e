"""That several processes give the batch norms of one is tested in test_together.py."""

from __future__ import annotations

import pytest
from torch import nn

from stillroom.errors import InputError
from stillroom.runtime.global_batch_norm import SharedNorms


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_batch_norm_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match="OwnNorm"):
        SharedNorms([nn.Sequential(OwnNorm(3))])
