from dataclasses import FrozenInstanceError

import pytest
import torch

from stillroom.batch import Batch, Mixture, Output


def test_features_are_those_of_the_pass_in_order():
    maps = [torch.zeros(1, 2), torch.ones(1, 3)]
    assert Output(torch.zeros(1, 4), {"features": maps}).features == tuple(maps)
    assert Output(torch.zeros(1, 4)).features == ()
    assert Output(torch.zeros(1, 4), {"maps": maps[0]}).features == ()


def test_outputs_do_not_share_their_parts():
    assert Output(torch.zeros(1, 4)).parts is not Output(torch.zeros(1, 4)).parts


def test_a_batch_has_one_view_and_counts_unless_it_says_otherwise():
    batch = Batch(torch.zeros(2, 3, 4, 4), torch.zeros(2).long(), torch.arange(2))
    assert batch.strong is None
    assert not batch.stand_in
    with pytest.raises(FrozenInstanceError):
        batch.stand_in = True


def test_the_main_label_is_that_of_the_larger_fraction():
    labels = torch.tensor([1, 2, 3, -1])
    mixture = Mixture(torch.tensor([5, 6, 7, 8]), torch.tensor([1.0, 0.5, 0.4, 0.2]))
    batch = Batch(torch.zeros(4, 3, 4, 4), labels, torch.arange(4), mixture=mixture)
    assert batch.main_labels.tolist() == [1, 2, 7, 8]
    assert Batch(torch.zeros(4, 3, 4, 4), labels, torch.arange(4)).main_labels is labels
