"""Ensemble: several teachers of the same classes, whose predictions are averaged."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.teachers.ensemble_file import Combine
from stillroom.teachers.teacher import OFFERS, Offer, Teacher


class Ensemble:
    """The weighted mean of several teachers' probabilities or logits.

    With ``confidence`` each member's weight is multiplied, for each image, by ``1 - H(p) / log C``, where H is the
    entropy of the member's probabilities p at temperature 1 and C the number of classes: a certain member has the
    factor 1, one with an even distribution 0. Labels are not used. The formula is ours; weights of CA-MKD (Zhang et
    al., ICASSP 2022) serve the same purpose and need labels. Where every member has an even distribution, the weights
    are those without confidence.

    Args:
        members: predict the same classes, each after its class map.
        weights: one above 0 for each member; they are divided by their sum.
        combine: "probabilities" returns the logarithm of the mean probability; "logits" the mean of the logits.
        confidence: whether to weight members for each image.

    Raises:
        InputError: there are no members, their classes differ, or a weight is missing or not above 0.
    """

    def __init__(
        self,
        members: Sequence[Teacher],
        weights: Sequence[float] | None = None,
        combine: Combine = "probabilities",
        *,
        confidence: bool = False,
    ) -> None:
        given = [1.0] * len(members) if weights is None else list(weights)
        if not members or len(given) != len(members) or min(given) <= 0:
            raise InputError(f"weights={given} for {counted(len(members), 'teacher')}: give each one above 0")
        first = members[0]
        for member in members[1:]:
            names_differ = None not in (first.classes, member.classes) and member.classes != first.classes
            if member.class_count != first.class_count or names_differ:
                raise InputError(
                    f"teachers of an ensemble predict different classes ({first.class_count:,} and "
                    f"{member.class_count:,}): give each one a class_map"
                )
        self.members, self.combine, self.confidence = tuple(members), combine, confidence
        self.weights = tuple(weight / sum(given) for weight in given)
        self.classes, self.class_count, self.input_format = first.classes, first.class_count, first.input_format
        # The logarithm of a mean probability is a logit up to a constant per image only.
        least: Offer = "probabilities" if combine == "probabilities" else "logits"
        self.offers: Offer = max((least, *(member.offers for member in members)), key=OFFERS.index)
        text = "\n".join(f"{weight!r} {member.identity}" for weight, member in zip(self.weights, members, strict=True))
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        self.identity = f"ensemble {digest} of {combine}{' by confidence' if confidence else ''}"

    @property
    def bank_seconds(self) -> float:
        """The sum of the members'."""
        return sum(member.bank_seconds for member in self.members)

    def predict(self, batch: Batch) -> Output:
        """The mean of the members' predictions for the same batch: logits, and "logits_strong" where all have it."""
        outputs = [member.predict(batch) for member in self.members]
        parts = {}
        if all("logits_strong" in output.parts for output in outputs):
            parts["logits_strong"] = self._mean([output.parts["logits_strong"] for output in outputs])
        return Output(self._mean([output.logits for output in outputs]), parts)

    def close(self) -> None:
        """Close all members."""
        for member in self.members:
            member.close()

    def _mean(self, predictions: Sequence[Tensor]) -> Tensor:
        """The mean of logits, (B, C)."""
        logits = torch.stack([one.float() for one in predictions])  # (members, B, C)
        log_p = logits.log_softmax(2)
        # Filled member by member: a tensor made of a list would be copied to the device in each step.
        fractions = logits.new_ones(logits.shape[:2])
        for row, weight in zip(fractions, self.weights, strict=True):
            row.fill_(weight)
        if self.confidence:
            entropy = torch.special.entr(log_p.exp()).sum(2)
            # The small number decides only where every member has an even distribution.
            fractions = fractions * ((1 - entropy / math.log(logits.shape[2])).clamp_min(0) + 1e-6)
            fractions = fractions / fractions.sum(0)
        if self.combine == "logits":
            return (fractions.unsqueeze(2) * logits).sum(0)
        return (log_p + fractions.log().unsqueeze(2)).logsumexp(0)
