import pytest
import torch
from torch.nn import functional as F

from stillroom.batch import Mixture
from stillroom.methods.cross_entropy import balanced_class_weights, cross_entropy


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


def made(seed=0):
    """Logits (6, 4), two labels and a fraction for each image."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, 4, generator=generator)
    first, second = (torch.randint(0, 4, (6,), generator=generator) for _ in range(2))
    return logits, first, Mixture(second, torch.rand(6, generator=generator))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 2.0, 0.0])])
def test_it_is_the_cross_entropy_with_explicit_soft_labels(smoothing, weights):
    logits, first, mixture = made()
    total = torch.tensor(0.0)
    for row in range(6):
        for label, fraction in ((first[row], mixture.fraction[row]), (mixture.labels[row], 1 - mixture.fraction[row])):
            soft = (1 - smoothing) * F.one_hot(label, 4) + smoothing / 4
            factor = 1.0 if weights is None else weights[label]
            total += fraction * factor * -(soft * logits[row].log_softmax(0)).sum() / 6
    found = cross_entropy(logits, first, mixture=mixture, label_smoothing=smoothing, class_weights=weights)
    torch.testing.assert_close(found, total)


def test_smoothing_alone_is_torchs_own():
    logits, target, _ = made()
    expected = F.cross_entropy(logits, target, label_smoothing=0.1)
    assert torch.equal(cross_entropy(logits, target, label_smoothing=0.1), expected)
    partly = torch.tensor([1, -1, 3, -1, -1, 0])
    expected = F.cross_entropy(logits[partly >= 0], partly[partly >= 0], label_smoothing=0.1)
    torch.testing.assert_close(cross_entropy(logits, partly, torch.tensor(3.0), label_smoothing=0.1), expected)


def test_of_a_mixed_image_only_the_labelled_part_counts_by_its_fraction():
    logits, _, _ = made()
    first, second = torch.tensor([0, 0, -1, -1, 1, 2]), torch.tensor([1, -1, 1, -1, -1, 3])
    fraction = torch.tensor([0.3, 0.4, 0.9, 0.5, 1.0, 0.8])
    rows = -logits.log_softmax(1)
    parts = [
        0.3 * rows[0, 0] + 0.7 * rows[0, 1], 0.4 * rows[1, 0], 0.1 * rows[2, 1], rows[4, 1],
        0.8 * rows[5, 2] + 0.2 * rows[5, 3],
    ]  # fmt: skip
    found = cross_entropy(logits, first, torch.tensor(4.0), mixture=Mixture(second, fraction))
    torch.testing.assert_close(found, sum(parts) / 4)


def test_balanced_weights_give_every_class_the_same_total_and_images_1_on_average():
    labels = torch.tensor([0] * 8 + [1] * 2 + [3] * 5 + [-1] * 7)
    weights = balanced_class_weights(labels, 5)
    known = labels[labels >= 0]
    totals = torch.zeros(5).index_add_(0, known, weights[known])
    torch.testing.assert_close(totals, torch.tensor([5.0, 5.0, 0.0, 5.0, 0.0]))
    assert weights[known].mean() == pytest.approx(1)
