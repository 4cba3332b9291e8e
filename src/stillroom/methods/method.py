"""A method: cross-entropy plus weighted losses, each saying by its parameter names what it needs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stillroom.batch import Output
from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.losses.needs import connect_needs_of, needs_of
from stillroom.methods.own_losses import check_properties, one_number
from stillroom.models.probe import PARTS

# What a loss's forward may ask for; connect may ask for train_labels too. Each name is one thing for both networks.
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
        name: how the term is called in progress bars and records; the class name in lower case when empty.
        needs: what the loss asks for in every step, from the vocabulary.
    """

    loss: nn.Module
    weight: float = 1.0
    warmup: int = 0
    name: str = ""
    needs: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        kind = type(self.loss).__name__
        needs = needs_of(self.loss)
        for asked, known in ((needs, VOCABULARY), (connect_needs_of(self.loss), VOCABULARY | {"train_labels"})):
            strange = [name for name in asked if name not in known]
            if strange:
                raise InputError(
                    f"loss {kind} asks for {strange[0]!r}, which no method provides; "
                    f"name parameters {', '.join(sorted(known))}"
                )
        check_properties(self.loss)
        if not (0 <= self.weight < math.inf):
            raise InputError(f"weight={self.weight} of {kind}: give a finite number >= 0")
        if self.warmup < 0:
            raise InputError(f"warmup={self.warmup} of {kind}: give epochs >= 0")
        object.__setattr__(self, "needs", needs)
        object.__setattr__(self, "name", self.name or kind.lower())

    @property
    def initial_epochs(self) -> int:
        """For how many epochs, from the first, only losses with an initial stage are trained."""
        return int(getattr(self.loss, "initial_epochs", 0))

    def weight_at(self, epoch: int, initial_epochs: int = 0) -> float:
        """The weight in an epoch counted from 1; 0 where the term rests.

        In the initial stage a loss is all there is and counts once, as published: its weight balances it against
        the cross-entropy, which rests.

        Args:
            epoch: counted from 1.
            initial_epochs: how long the method's initial stage lasts. Warm-ups begin after it.
        """
        if epoch <= initial_epochs:
            return 1.0 if self.weight and self.initial_epochs >= epoch else 0.0
        final = getattr(self.loss, "final_epoch", None)
        if final is not None and epoch > final:
            return 0.0
        return self.weight * min((epoch - initial_epochs) / self.warmup, 1.0) if self.warmup else self.weight


class Method(nn.Module):
    """Cross-entropy on the labels plus weighted losses against the teacher.

    Args:
        terms: the losses. Empty means training on labels only.
        ce: weight of the cross-entropy, finite and not negative. Where a loss asks for a second view of the images,
            the cross-entropy is the sum over both views.
        text: how to write this method down; made from the terms when empty.

    Raises:
        InputError: if nothing is left to minimise.
    """

    def __init__(self, terms: Iterable[Term] = (), ce: float = 1.0, text: str = "") -> None:
        super().__init__()
        self.terms = tuple(_with_distinct_names(terms))
        self.ce = float(ce)
        if not (0 <= self.ce < math.inf):
            raise InputError(f"ce={ce}: give a finite number >= 0")
        lasting = [term for term in self.terms if getattr(term.loss, "final_epoch", None) is None]
        if self.ce == 0 and not any(term.weight for term in lasting):
            raise InputError(f"method {text or 'without terms'}: every weight is zero, nothing would be learned")
        self.losses = nn.ModuleList(term.loss for term in self.terms)
        self.text = text or " + ".join([f"{self.ce:g}*ce", *(f"{term.weight:g}*{term.loss!r}" for term in self.terms)])

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names of all terms in the order :meth:`forward` returns them."""
        return (("ce",) if self.ce else ()) + tuple(term.name for term in self.terms)

    @property
    def initial_epochs(self) -> int:
        """How many epochs the initial stage takes; in it the cross-entropy and most losses rest."""
        return max((term.initial_epochs for term in self.terms), default=0)

    @property
    def reuses_head(self) -> Any:
        """The loss for which the student gets the teacher's classifier, if there is one."""
        return next((loss for loss in self.losses if getattr(loss, "reuses_head", False)), None)

    @property
    def needs(self) -> frozenset[str]:
        """Everything that any loss asks for in a step."""
        return frozenset(name for term in self.terms for name in term.needs)

    @property
    def connect_needs(self) -> frozenset[str]:
        """Everything that any loss asks for before training, to build its connectors."""
        return frozenset(name for loss in self.losses for name in connect_needs_of(loss))

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss reads the teacher."""
        return any(name.startswith("teacher") for name in self.needs)

    def needs_teacher_in(self, epoch: int) -> bool:
        """Whether any loss that is at work in an epoch, counted from 1, reads the teacher."""
        return any(name.startswith("teacher") for term in self._working_in(epoch) for name in term.needs)

    def relates_samples_in(self, epoch: int) -> bool:
        """Whether any loss at work in an epoch, counted from 1, may compare the samples of a batch with each other.

        A loss that is a mean over samples says so with the attribute ``per_sample = True``.
        """
        return any(not getattr(term.loss, "per_sample", False) for term in self._working_in(epoch))

    def _working_in(self, epoch: int) -> list[Term]:
        return [term for term in self.terms if term.weight_at(epoch, self.initial_epochs) > 0]

    @property
    def draws(self) -> bool:
        """Whether any loss draws random numbers; it says so with the attribute ``draws = True``."""
        return any(getattr(loss, "draws", False) for loss in self.losses)

    def parts_of(self, side: str) -> tuple[str, ...]:
        """What has to be read out of a network beside its logits.

        Args:
            side: "student" or "teacher".
        """
        return tuple(part for part in PARTS if f"{side}_{part}" in self.needs | self.connect_needs)

    @property
    def bankable(self) -> bool:
        """Whether all that is read of the teacher is logits, which can be stored."""
        asked = {name for name in self.needs | self.connect_needs if name.startswith("teacher_")}
        return self.reuses_head is None and asked <= {"teacher_logits", "teacher_logits_strong"}

    @property
    def needs_strong(self) -> bool:
        """Whether any loss asks for a second, strongly augmented view."""
        return any(name.endswith("_strong") for name in self.needs)

    def forward(
        self, student: Output, teacher: Output | None, target: Tensor, epoch: int = 1, ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Compute every weighted term; their sum is the loss.

        Args:
            student: logits (B, C) with gradient, and the parts that :meth:`parts_of` names; in the loop all float32,
                whatever the forward pass computes in.
            teacher: the same; None where :meth:`needs_teacher_in` says no.
            target: labels (B,), int64.
            epoch: counted from 1, for warm-ups.
            ids: sample ids (B,), int64, for losses with a memory.

        Returns:
            One scalar a term, weights applied, in the order of :attr:`term_names`; 0 for a term that rests.

        Raises:
            InputError: a loss returned something else than one floating number.
        """
        at_hand = {"target": target, "epoch": epoch, "ids": ids, **named("student", student)}
        if teacher is not None:
            at_hand |= named("teacher", teacher)
        terms: dict[str, Tensor] = {}
        resting = student.logits.new_zeros((), dtype=torch.float32)
        if self.ce:
            strong = student.parts.get("logits_strong")
            views = [student.logits] if strong is None else [student.logits, strong]
            on_labels = torch.stack([F.cross_entropy(view.float(), target) for view in views]).sum()
            terms["ce"] = resting if epoch <= self.initial_epochs else self.ce * on_labels
        for term in self.terms:
            weight = term.weight_at(epoch, self.initial_epochs)
            if weight:
                value = term.loss(**{name: at_hand[name] for name in term.needs})
                terms[term.name] = weight * one_number(term.loss, value)
            else:
                terms[term.name] = resting
        return terms

    def check(self, num_classes: int, epochs: int = 1_000_000) -> None:
        """Run every loss on logits once on made-up ones, so that an impossible value shows before training.

        Args:
            num_classes: of the data.
            epochs: of the run, which has to outlast the initial stage.

        Raises:
            InputError: with the loss's own message, for example a depth above the class count.
        """
        if self.initial_epochs >= epochs:
            raise InputError(
                f"method={self.text!r}: its initial stage takes {self.initial_epochs} of {counted(epochs, 'epoch')}; "
                "lower its initial_epochs or raise epochs"
            )
        logits = torch.linspace(-1, 1, 2 * num_classes).reshape(2, num_classes)
        made_up: dict[str, Any] = {f"{side}_{part}": logits for side in SIDES for part in ("logits", "logits_strong")}
        made_up |= {"target": torch.zeros(2, dtype=torch.long), "epoch": 1}
        for term in self.terms:
            if connect_needs_of(term.loss) or not made_up.keys() >= {*term.needs}:
                continue
            try:
                one_number(term.loss, term.loss(**{name: made_up[name] for name in term.needs}))
            except ValueError as error:
                raise InputError(f"method={self.text!r}: {error}") from error

    def extra_repr(self) -> str:
        """The text form."""
        return self.text


def named(side: str, output: Output) -> dict[str, Any]:
    """What a network said, by the names that losses ask for."""
    return {f"{side}_logits": output.logits, **{f"{side}_{part}": value for part, value in output.parts.items()}}


def _with_distinct_names(terms: Iterable[Term]) -> list[Term]:
    named: dict[str, Term] = {}
    for term in terms:
        name, copy = term.name, 2
        while name in named or name == "ce":
            name, copy = f"{term.name}_{copy}", copy + 1
        named[name] = Term(term.loss, term.weight, term.warmup, name)
    return list(named.values())
