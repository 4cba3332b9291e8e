import torch
from torch.nn import functional as F

from stillroom.methods.cross_entropy import cross_entropy


def test_it_is_the_mean_over_labelled_images():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, -1, 3, -1, -1, 0])
    own = F.cross_entropy(logits[target >= 0], target[target >= 0])
    assert torch.allclose(cross_entropy(logits, target, torch.tensor(3.0)), own)


def test_with_all_labels_it_is_torchs_own():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    target = torch.arange(6) % 4
    assert torch.equal(cross_entropy(logits, target), F.cross_entropy(logits, target))


def test_without_labels_value_and_gradient_are_zero():
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    value = cross_entropy(logits, torch.full((6,), -1), torch.tensor(1.0))
    value.backward()
    assert value == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
