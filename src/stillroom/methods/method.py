"""Methods: cross-entropy plus weighted losses, and what these need from student and teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.batch import Mixture, Output
from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.losses.protocol import rows_of, stream_rows_of
from stillroom.methods.cross_entropy import cross_entropy, mixed_rows
from stillroom.methods.loss_value import scalar_of
from stillroom.methods.term import SIDES, Term
from stillroom.models.model_parts import PARTS


class Method(nn.Module):
    """Cross-entropy on the labels plus weighted losses against the teacher.

    Args:
        terms: the losses. Empty means training on labels only.
        ce: weight of the cross-entropy, finite and not negative. Where a loss needs a second view of the images, the
            cross-entropy is the sum over both views.
        text: the method's text form; made from the terms when empty.

    Attributes:
        supervised_name: the name of the term of the labels: "ce", or "supervised" where a model has a loss of its own.
        label_smoothing: of the cross-entropy, in [0, 1).
        class_weights: float32 (C,), factors of the cross-entropy by label, or None; no part of the state dict.

    Raises:
        InputError: every weight is zero, or a weight is out of range.
    """

    class_weights: Tensor | None

    def __init__(self, terms: Iterable[Term] = (), ce: float = 1.0, text: str = "") -> None:
        super().__init__()
        self.terms = tuple(_with_distinct_names(terms))
        self.ce = float(ce)
        self.supervised_name = "ce"
        self.label_smoothing = 0.0
        self.register_buffer("class_weights", None, persistent=False)
        if not (0 <= self.ce < math.inf):
            raise InputError(f"ce={ce}: give a finite number >= 0")
        lasting = [term for term in self.terms if term.properties.final_epoch is None]
        if self.ce == 0 and not any(term.weight for term in lasting):
            raise InputError(f"method {text or 'without terms'}: every weight is zero, nothing would be learned")
        self.losses = nn.ModuleList(term.loss for term in self.terms)
        self.text = text or " + ".join([f"{self.ce:g}*ce", *(f"{term.weight:g}*{term.loss!r}" for term in self.terms)])

    @property
    def term_names(self) -> tuple[str, ...]:
        """The names of all terms in the order :meth:`forward` returns them."""
        return ((self.supervised_name,) if self.ce else ()) + tuple(term.name for term in self.terms)

    @property
    def initial_epochs(self) -> int:
        """Length of the initial stage, in which only the losses that declare one are computed."""
        return max((term.properties.initial_epochs for term in self.terms), default=0)

    @property
    def projector_factor(self) -> int | None:
        """The projector's factor where the student is trained with the teacher's classifier, else None."""
        reusing = (term.properties for term in self.terms if term.properties.reuses_head)
        return next((properties.projector_factor for properties in reusing), None)

    @property
    def needs(self) -> frozenset[str]:
        """The inputs of all losses in a step."""
        return frozenset(name for term in self.terms for name in term.needs)

    @property
    def connect_needs(self) -> frozenset[str]:
        """The inputs of all losses' ``connect``, before training."""
        return frozenset(name for term in self.terms for name in term.connect_needs)

    @property
    def needs_teacher(self) -> bool:
        """Whether any loss reads the teacher."""
        return any(name.startswith("teacher") for name in self.needs)

    def needs_teacher_in(self, epoch: int) -> bool:
        """Whether any loss that is computed in an epoch, counted from 1, reads the teacher."""
        return any(name.startswith("teacher") for term in self._computed_in(epoch) for name in term.needs)

    def relates_samples_in(self, epoch: int) -> bool:
        """Whether any loss that is computed in an epoch, counted from 1, relates the samples of a batch."""
        return any(not term.properties.per_sample for term in self._computed_in(epoch))

    def _computed_in(self, epoch: int) -> list[Term]:
        return [term for term in self.terms if term.weight_at(epoch, self.initial_epochs) > 0]

    @property
    def draws(self) -> bool:
        """Whether any loss draws random numbers."""
        return any(term.properties.draws for term in self.terms)

    def parts_of(self, side: str) -> tuple[str, ...]:
        """The parts of a network that the losses need beside its logits.

        Args:
            side: "student" or "teacher".
        """
        return tuple(part for part in PARTS if f"{side}_{part}" in self.needs | self.connect_needs)

    @property
    def bankable(self) -> bool:
        """Whether the losses read only the teacher's logits in a step, which can be stored.

        A classifier whose weights are read once, before training, is no obstacle.
        """
        read = {name for name in self.needs | (self.connect_needs - {"teacher_head"}) if name.startswith("teacher_")}
        return self.projector_factor is None and read <= {"teacher_logits", "teacher_logits_strong"}

    @property
    def needs_strong(self) -> bool:
        """Whether any loss needs a second, strongly augmented view."""
        return any(name.endswith("_strong") for name in self.needs)

    def forward(
        self,
        student: Output,
        teacher: Output | None,
        target: Tensor,
        epoch: int = 1,
        ids: Tensor | None = None,
        labelled: Tensor | None = None,
        mixture: Mixture | None = None,
    ) -> dict[str, Tensor]:
        """Compute every weighted term; their sum is the loss.

        Args:
            student: logits (B, C) with gradient, and the parts in :meth:`parts_of`; in the loop all float32, whatever
                the forward pass computes in. A part "supervised" is a loss of the model's own, a scalar; it takes the
                place of the cross-entropy.
            teacher: the same; None where :meth:`needs_teacher_in` is False.
            target: labels (B,), int64; -1 for an image without a label, with ``labelled`` only.
            epoch: counted from 1, for warm-ups.
            ids: sample ids (B,), int64, for losses with a memory.
            labelled: number of images with a label by which the sum of the cross-entropies is divided, > 0; None where
                every image has a label.
            mixture: the second images in mixed images. The losses of both labels of an image are then mixed; a loss
                that reads labels must have ``rows``.

        Returns:
            One weighted scalar per term, in the order of :attr:`term_names`; 0 for a term that is not computed.

        Raises:
            InputError: a loss did not return a floating scalar.
        """
        given = (student, teacher, target, epoch, ids, labelled, mixture)
        return {name: value for name, _, value in self.values(*given)}

    def values(
        self,
        student: Output,
        teacher: Output | None,
        target: Tensor,
        epoch: int = 1,
        ids: Tensor | None = None,
        labelled: Tensor | None = None,
        mixture: Mixture | None = None,
        *,
        apart: bool = False,
    ) -> Iterator[tuple[str, str, Tensor]]:
        """Compute every weighted term from what :meth:`forward` takes, perhaps in parts.

        Yields:
            The name of the term, the name of its part (empty for a whole term), and a weighted scalar. With ``apart`` a
            loss that has ``stream_rows`` yields its parts one after the other.
        """
        available = {"target": target, "epoch": epoch, "ids": ids, **named("student", student)}
        if teacher is not None:
            available |= named("teacher", teacher)
        nothing = student.logits.new_zeros((), dtype=torch.float32)
        if self.ce:
            on_labels = self._on_labels(student, target, labelled, mixture)
            yield self.supervised_name, "", nothing if epoch <= self.initial_epochs else self.ce * on_labels
        for term in self.terms:
            weight = term.weight_at(epoch, self.initial_epochs)
            if not weight:
                yield term.name, "", nothing
                continue
            inputs = {name: available[name] for name in term.needs}
            for part, value in _values(term, inputs, mixture, apart=apart).items():
                yield term.name, part, weight * scalar_of(term.loss, value)

    def _on_labels(self, student: Output, target: Tensor, labelled: Tensor | None, mixture: Mixture | None) -> Tensor:
        """The student's own loss where it has one; otherwise the cross-entropy, summed over the views."""
        own: Tensor | None = student.parts.get("supervised")
        if own is not None:
            return own
        strong = student.parts.get("logits_strong")
        views = [student.logits] if strong is None else [student.logits, strong]
        options: dict[str, Any] = {"mixture": mixture, "label_smoothing": self.label_smoothing}
        options["class_weights"] = self.class_weights
        return torch.stack([cross_entropy(view.float(), target, labelled, **options) for view in views]).sum()

    def check(self, num_classes: int, epochs: int = 1_000_000) -> None:
        """Run every loss on logits once on example logits, so that an impossible setting shows before training.

        Args:
            num_classes: of the data.
            epochs: of the run, which must be longer than the initial stage.

        Raises:
            InputError: with the loss's own message, for example a depth above the class count.
        """
        if self.initial_epochs >= epochs:
            raise InputError(
                f"method={self.text!r}: its initial stage takes {self.initial_epochs} of {counted(epochs, 'epoch')}; "
                "lower its initial_epochs or raise epochs"
            )
        logits = torch.linspace(-1, 1, 2 * num_classes).reshape(2, num_classes)
        examples: dict[str, Any] = {f"{side}_{part}": logits for side in SIDES for part in ("logits", "logits_strong")}
        examples |= {"target": torch.zeros(2, dtype=torch.long), "epoch": 1}
        for term in self.terms:
            if term.connect_needs or not examples.keys() >= {*term.needs}:
                continue
            try:
                scalar_of(term.loss, term.loss(**{name: examples[name] for name in term.needs}))
            except ValueError as error:
                raise InputError(f"method={self.text!r}: {error}") from error

    def extra_repr(self) -> str:
        """The text form."""
        return self.text


def named(side: str, output: Output) -> dict[str, Any]:
    """A network's output under the names that losses take."""
    return {f"{side}_logits": output.logits, **{f"{side}_{part}": value for part, value in output.parts.items()}}


def _values(term: Term, inputs: dict[str, Any], mixture: Mixture | None, *, apart: bool) -> Mapping[str, Any]:
    """A loss under the empty name, or its parts by the names of their streams if they are taken apart."""
    parts = stream_rows_of(term.loss) if apart else None
    if parts is None:
        return {"": term.loss(**inputs) if mixture is None else _of_mixed(term, inputs, mixture)}
    rows = parts(**inputs)
    if mixture is not None and "target" in inputs:
        other = parts(**inputs | {"target": mixture.labels})
        rows = {part: mixed_rows(each, other[part], mixture) for part, each in rows.items()}
    return {part: each.mean() for part, each in rows.items()}


def _of_mixed(term: Term, inputs: dict[str, Any], mixture: Mixture) -> Any:
    """A loss of mixed images: the mixture of its losses for both labels where it reads labels."""
    if "target" not in inputs:
        return term.loss(**inputs)
    rows = rows_of(term.loss)
    assert rows is not None  # see refuse_mixing
    return mixed_rows(rows(**inputs), rows(**inputs | {"target": mixture.labels}), mixture).mean()


def _with_distinct_names(terms: Iterable[Term]) -> list[Term]:
    named: dict[str, Term] = {}
    for term in terms:
        name, number = term.name, 2
        while name in named or name in ("ce", "supervised"):
            name, number = f"{term.name}_{number}", number + 1
        named[name] = Term(term.loss, term.weight, term.warmup, name)
    return list(named.values())
