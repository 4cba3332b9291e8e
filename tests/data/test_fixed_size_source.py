import torch

from stillroom.data import Augment, Loader
from stillroom.input_format import InputFormat


def test_the_loader_of_a_source_has_the_options(small_set):
    options = {"batch_size": 16, "input_format": InputFormat((0.5,) * 3, (0.25,) * 3), "augment": Augment(pad=1),
               "shuffle": True, "seed": 3, "rank": 1, "world_size": 2, "strong": True}  # fmt: skip
    for one, other in zip(small_set.loader(**options).epoch(2), Loader(small_set, **options).epoch(2), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.strong, other.strong)
        assert torch.equal(one.ids, other.ids)
