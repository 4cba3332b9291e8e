import pytest
import torch
from torch import nn
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

from stillroom.tasks.seeded_sampling import SeededSampler, sampling_seeds, shadowed


def test_seeds_depend_on_seed_epoch_and_id_only():
    seeds = sampling_seeds(3, 5, torch.tensor([7, 0, 7]))
    assert seeds.shape == (3, 2)
    assert torch.equal(seeds[0], sampling_seeds(3, 5, torch.tensor([7]))[0])
    assert torch.equal(seeds[0], seeds[2])
    others = [sampling_seeds(*key, torch.tensor([7]))[0] for key in ((3, 6), (4, 5), (5, 3))]
    assert len({int(seed) for pair in (seeds[0], seeds[1], *others) for seed in pair}) == 10


def sampled(labels, seeds):
    positive, negative = SeededSampler(BalancedPositiveNegativeSampler(8, 0.5), seeds)(labels)
    return [
        (p.nonzero().flatten().tolist(), n.nonzero().flatten().tolist())
        for p, n in zip(positive, negative, strict=True)
    ]


def test_the_sample_of_an_image_does_not_depend_on_the_others_or_on_the_global_state():
    labels = [(torch.arange(60) % 3 == 0).float(), (torch.arange(40) % 2 == 0).float()]
    both = sampled(labels, [11, 22])
    torch.manual_seed(5)
    assert sampled(labels[1:], [22]) == both[1:]
    assert sampled(labels[1:], [23]) != both[1:]
    assert [len(part) for part in both[0]] == [4, 4]


def test_the_global_random_state_stays():
    torch.manual_seed(9)
    expected = torch.rand(3)
    torch.manual_seed(9)
    sampled([torch.ones(5)], [1])
    assert torch.equal(torch.rand(3), expected)


def test_the_global_random_state_stays_when_the_sampler_fails():
    def broken(labels):
        torch.rand(100)
        raise RuntimeError(len(labels))

    before = torch.get_rng_state()
    with pytest.raises(RuntimeError):
        SeededSampler(broken, [1])([torch.ones(5)])
    assert torch.equal(torch.get_rng_state(), before)


def test_attributes_and_submodules_are_restored_also_after_an_error():
    module = nn.Sequential()
    module.plain = 1
    module.layer = layer = nn.Linear(2, 2)
    names = list(module.state_dict())

    def fail_inside():
        with shadowed(module, plain=2, layer=len):
            assert (module.plain, module.layer) == (2, len)
            assert list(module.state_dict()) == names
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_inside()
    assert module.plain == 1
    assert module.layer is layer
    assert "layer" not in vars(module)
