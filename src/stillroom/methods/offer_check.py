"""Offer check: refuse a method that needs more of a teacher's predictions than the teacher gives."""

from __future__ import annotations

from torch import nn

from stillroom.errors import InputError
from stillroom.losses.protocol import OFFERS, Offer, connect_needs_of, needs_of, properties_of
from stillroom.methods.method import Method
from stillroom.methods.presets import PRESETS

_READ = {"teacher_logits", "teacher_logits_strong"}
# Why a loss with this need cannot do with less.
_REASONS: dict[Offer, str] = {
    "logits": "it compares the logits as numbers, and probabilities give them only up to a constant for each image",
    "probabilities": "it compares the probabilities of single classes, and only those of the k most likely are known",
    "top-k": "it compares probabilities",
}


def refuse_offer(method: Method, offer: Offer) -> None:
    """Refuse a method with a loss that needs more than a teacher offers.

    A teacher of embeddings predicts nothing; :func:`stillroom.methods.connect.connect` refuses losses on its logits.

    Args:
        method: its losses declare what they need (:class:`~stillroom.losses.protocol.LossProperties`).
        offer: what the teacher's predictions are made from.

    Raises:
        InputError: naming the term, what it needs, what the teacher gives and the methods that would work.
    """
    if offer == "embedding":
        return
    for term in method.terms:
        need = term.properties.teacher_offer
        if term.weight and _READ & {*term.needs} and OFFERS.index(offer) > OFFERS.index(need):
            raise InputError(
                f"method={method.text!r}: {term.name} needs the teacher's {need}, but the teacher gives {offer}: "
                f"{_REASONS[need]}; with {offer} use {', '.join(methods_for(offer))}"
            )


def methods_for(offer: Offer) -> tuple[str, ...]:
    """The named methods that read nothing of a teacher but its logits and work with an offer."""
    losses = {name: preset.loss() for name, preset in PRESETS.items()}
    return tuple(
        name
        for name, loss in losses.items()
        if _reads_logits_only(loss) and OFFERS.index(offer) <= OFFERS.index(properties_of(loss).teacher_offer)
    )


def _reads_logits_only(loss: nn.Module) -> bool:
    read = {name for name in (*needs_of(loss), *connect_needs_of(loss)) if name.startswith("teacher_")}
    return bool(read) and read <= _READ
