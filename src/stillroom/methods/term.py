"""Term: one weighted loss inside a method, and the names of what losses may take."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import nn

from stillroom.errors import InputError
from stillroom.losses.protocol import LossProperties, connect_needs_of, needs_of, properties_of
from stillroom.models.model_parts import PARTS

# What forward may take; connect may take train_labels too. A name means the same for every loss.
SIDES = ("student", "teacher")
ALONE = ("target", "ids", "epoch")
VOCABULARY = frozenset({f"{side}_{part}" for side in SIDES for part in ("logits", "logits_strong", *PARTS)} | {*ALONE})


@dataclass(frozen=True, slots=True)
class Term:
    """One loss inside a method.

    Attributes:
        loss: the module that computes it.
        weight: its factor in the sum, finite and not negative.
        warmup: epochs of linear warm-up; in epoch ``e`` (from 1) the weight is ``weight * min(e / warmup, 1)``.
        name: of the term in progress bars and records; the class name in lower case when empty.
        needs: the inputs of the loss in every step, from :data:`VOCABULARY`.
        connect_needs: the inputs of its ``connect``.
        properties: what else the loss declares.

    Raises:
        InputError: an input is unknown, a property is misspelt or of another type, or weight or warmup is out of range.
    """

    loss: nn.Module
    weight: float = 1.0
    warmup: int = 0
    name: str = ""
    needs: tuple[str, ...] = field(init=False)
    connect_needs: tuple[str, ...] = field(init=False)
    properties: LossProperties = field(init=False)

    def __post_init__(self) -> None:
        kind = type(self.loss).__name__
        try:
            properties = properties_of(self.loss)
        except ValueError as error:
            raise InputError(str(error)) from error
        needs, connect_needs = needs_of(self.loss), connect_needs_of(self.loss)
        for wanted, known in ((needs, VOCABULARY), (connect_needs, VOCABULARY | {"train_labels"})):
            unknown = [name for name in wanted if name not in known]
            if unknown:
                raise InputError(
                    f"loss {kind} takes {unknown[0]!r}, which no method provides; "
                    f"name parameters {', '.join(sorted(known))}"
                )
        if not (0 <= self.weight < math.inf):
            raise InputError(f"weight={self.weight} of {kind}: give a finite number >= 0")
        if self.warmup < 0:
            raise InputError(f"warmup={self.warmup} of {kind}: give epochs >= 0")
        object.__setattr__(self, "needs", needs)
        object.__setattr__(self, "connect_needs", connect_needs)
        object.__setattr__(self, "properties", properties)
        object.__setattr__(self, "name", self.name or kind.lower())

    def weight_at(self, epoch: int, initial_epochs: int = 0) -> float:
        """The weight in an epoch counted from 1; 0 where the term is not computed.

        In its initial stage a loss is trained alone and has the weight 1, as published, because its own weight balances
        it against the cross-entropy.

        Args:
            epoch: counted from 1.
            initial_epochs: length of the method's initial stage. Warm-ups begin after it.
        """
        if epoch <= initial_epochs:
            return 1.0 if self.weight and self.properties.initial_epochs >= epoch else 0.0
        final = self.properties.final_epoch
        if final is not None and epoch > final:
            return 0.0
        return self.weight * min((epoch - initial_epochs) / self.warmup, 1.0) if self.warmup else self.weight
