"""That several processes give the batch norms of one is tested in test_distributed.py."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.runtime.device import Machine
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms

TWO = Group(Machine(torch.device("cpu"), "32", world_size=2))


class OwnNorm(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def test_a_batch_norm_that_cannot_be_synchronised_is_refused():
    with pytest.raises(InputError, match="OwnNorm"):
        BatchNorms([nn.Sequential(OwnNorm(3))], TWO)


def test_the_mean_statistics_of_several_processes_can_be_loaded_by_one():
    norm = nn.BatchNorm2d(2)
    one = Group(Machine(torch.device("cpu"), "32"))
    BatchNorms([norm], one, synchronised=False).load_statistics(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    assert norm.running_mean.tolist() == [1, 2]
    assert norm.running_var.tolist() == [3, 4]
