"""A method is refused where the teacher tells too little."""

from __future__ import annotations

import pytest
from torch import nn

from stillroom.errors import InputError
from stillroom.losses.protocol import OFFERS
from stillroom.methods import PRESETS, Method, Term, parse_method
from stillroom.methods.offer_check import methods_for, refuse_offer


@pytest.mark.parametrize("offer", OFFERS)
def test_the_named_methods_work_with_what_they_are_named_for(offer):
    for name in methods_for(offer):
        refuse_offer(parse_method(name), offer)
    with_logits = set(methods_for("logits"))
    for name in with_logits - {*methods_for(offer)}:
        with pytest.raises(InputError):
            refuse_offer(parse_method(name), offer)


def test_less_serves_fewer_methods():
    sizes = [len(methods_for(offer)) for offer in OFFERS]
    assert sizes == sorted(sizes, reverse=True)
    assert methods_for("labels") == ("hard",)
    assert "revision" in methods_for("logits")
    assert "revision" not in methods_for("probabilities")


def test_ldrld_is_refused_with_top_k_and_the_reason():
    with pytest.raises(
        InputError,
        match=r"method='ldrld': ldrld needs the teacher's probabilities, but the teacher gives top-k: it compares the "
        r"probabilities of single classes, and only those of the k most likely are known; with top-k use kd, ",
    ):
        refuse_offer(parse_method("ldrld"), "top-k")


@pytest.mark.parametrize(
    ("text", "offer", "message"),
    [
        ("revision", "probabilities", "revision needs the teacher's logits, .* gives probabilities: it compares the "
         "logits as numbers, and probabilities give them only up to a constant for each image; with probabilities use"),
        ("0.1*ce + 0.9*kd", "labels", "kd needs the teacher's top-k, .* gives labels: it compares probabilities; with "
         "labels use hard$"),
        ("standardized(kd)", "top-k", "standardized_kd needs the teacher's probabilities"),
        ("kd + dkd", "top-k", "dkd needs the teacher's probabilities"),
        ("mlkd", "top-k", "mlkd needs the teacher's probabilities"),
    ],
)  # fmt: skip
def test_the_term_that_needs_more_is_named(text, offer, message):
    with pytest.raises(InputError, match=message):
        refuse_offer(parse_method(text), offer)


@pytest.mark.parametrize("text", ["ce", "0.5*ce + 0.5*hard", "uskd", "fitnet", "standardized(hard)", "0*ldrld + hard"])
def test_terms_that_read_no_probabilities_pass_with_labels_until_one_that_does_is_added(text):
    refuse_offer(parse_method(text), "labels")
    with pytest.raises(InputError, match="dist needs the teacher's probabilities, but the teacher gives labels"):
        refuse_offer(parse_method(f"{text} + dist"), "labels")


class Own(nn.Module):
    def forward(self, student_logits, teacher_logits):
        return (student_logits - teacher_logits).square().mean()


def test_a_loss_of_the_users_own_needs_logits_until_it_declares_less():
    with pytest.raises(InputError, match="own needs the teacher's logits, but the teacher gives probabilities"):
        refuse_offer(Method([Term(Own())]), "probabilities")
    loss = Own()
    loss.teacher_offer = "probabilities"
    refuse_offer(Method([Term(loss)]), "probabilities")


def test_every_preset_can_be_made_for_the_list():
    assert {*methods_for("logits")} < {*PRESETS}
