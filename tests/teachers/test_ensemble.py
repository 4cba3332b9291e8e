from __future__ import annotations

import math

import pytest
import torch

from stillroom.errors import InputError
from stillroom.teachers.ensemble import Ensemble
from stillroom.teachers.offers import one_hot_logits
from stillroom.teachers.teacher import Teacher
from tests.teachers.fixed_teacher import FixedTeacher, batch_of

ONE, OTHER = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1)) * 3


def pair(**given):
    return FixedTeacher(ONE, identity="one", **given), FixedTeacher(OTHER, identity="other", **given)


def test_it_is_a_teacher_that_passes_the_same_batch():
    members = pair(classes=("a", "b", "c", "d"))
    ensemble, batch = Ensemble(members), batch_of(5)
    assert isinstance(ensemble, Teacher)
    assert (ensemble.classes, ensemble.class_count) == (("a", "b", "c", "d"), 4)
    ensemble.predict(batch)
    assert all(member.batches == [batch] for member in members)
    members[0].bank_seconds, members[1].bank_seconds = 1.0, 2.5
    assert ensemble.bank_seconds == 3.5
    ensemble.close()
    assert all(member.closed for member in members)


def test_the_mean_of_probabilities_is_weighted():
    logits = Ensemble(pair(), [3, 1]).predict(batch_of(5)).logits
    torch.testing.assert_close(logits.exp(), 0.75 * ONE.softmax(1) + 0.25 * OTHER.softmax(1))


def test_the_mean_of_logits_is_weighted():
    logits = Ensemble(pair(), [3, 1], "logits").predict(batch_of(5)).logits
    torch.testing.assert_close(logits, 0.75 * ONE + 0.25 * OTHER)


@pytest.mark.parametrize("combine", ["probabilities", "logits"])
def test_confidence_weights_each_image_by_entropy(combine):
    expected = torch.zeros(5, 4)
    for image in range(5):
        factors = []
        for logits, weight in ((ONE, 0.75), (OTHER, 0.25)):
            p = logits[image].softmax(0).tolist()
            factors.append(weight * (1 + sum(q * math.log(q) for q in p) / math.log(4)))
        for logits, factor in zip((ONE, OTHER), factors, strict=True):
            values = logits[image].softmax(0) if combine == "probabilities" else logits[image]
            expected[image] += values * factor / sum(factors)
    found = Ensemble(pair(), [3, 1], combine, confidence=True).predict(batch_of(5)).logits
    torch.testing.assert_close(found.exp() if combine == "probabilities" else found, expected, rtol=1e-4, atol=1e-5)


def test_a_member_that_knows_nothing_does_not_count_with_confidence():
    even = FixedTeacher(torch.zeros(5, 4))
    found = Ensemble([FixedTeacher(ONE), even], confidence=True).predict(batch_of(5)).logits
    torch.testing.assert_close(found.exp(), ONE.softmax(1), rtol=0, atol=1e-4)
    both = Ensemble([even, even], [1, 2], confidence=True).predict(batch_of(5)).logits
    torch.testing.assert_close(both.exp(), torch.full((5, 4), 0.25))


def test_the_strong_view_is_combined_too():
    members = [FixedTeacher(ONE, parts={"logits_strong": OTHER}), FixedTeacher(OTHER, parts={"logits_strong": ONE})]
    output = Ensemble(members, combine="logits").predict(batch_of(5))
    torch.testing.assert_close(output.parts["logits_strong"], output.logits)


def test_labels_are_voted_on():
    votes = [FixedTeacher(one_hot_logits(torch.tensor([label]), 3), offers="labels") for label in (2, 1, 2)]
    for combine in ("probabilities", "logits"):
        ensemble = Ensemble(votes, combine=combine)
        assert ensemble.offers == "labels"
        assert ensemble.predict(batch_of(1)).logits.argmax() == 2


@pytest.mark.parametrize(
    ("offers", "combine", "least"),
    [
        (("logits", "logits"), "logits", "logits"),
        (("logits", "logits"), "probabilities", "probabilities"),
        (("probabilities", "logits"), "logits", "probabilities"),
        (("logits", "top-k"), "probabilities", "top-k"),
    ],
)
def test_it_offers_the_least_of_its_members(offers, combine, least):
    members = [FixedTeacher(ONE, offers=offer) for offer in offers]
    assert Ensemble(members, combine=combine).offers == least


def test_its_identity_covers_members_weights_and_mode():
    one, other = pair()
    made = [Ensemble([one, other]), Ensemble([one, one]), Ensemble([other, one], [1, 2]),
            Ensemble([one, other], [1, 2]),
            Ensemble([one, other], combine="logits"), Ensemble([one, other], confidence=True)]  # fmt: skip
    assert len({ensemble.identity for ensemble in made}) == len(made)
    assert Ensemble([one, other], [2, 2]).identity == made[0].identity


@pytest.mark.parametrize("weights", [[1], [1, 0], [1, -1], []])
def test_each_member_has_a_weight_above_0(weights):
    with pytest.raises(InputError, match="for 2 teachers: give each one above 0"):
        Ensemble(pair(), weights)


def test_an_ensemble_has_members():
    with pytest.raises(InputError, match="for 0 teachers"):
        Ensemble([])


def test_members_with_other_classes_are_refused():
    with pytest.raises(InputError, match=r"predict different classes \(4 and 3\): give each one a class_map"):
        Ensemble([FixedTeacher(ONE), FixedTeacher(ONE[:, :3])])
    with pytest.raises(InputError, match="different classes"):
        Ensemble([FixedTeacher(ONE, classes=tuple("abcd")), FixedTeacher(ONE, classes=tuple("abdc"))])
