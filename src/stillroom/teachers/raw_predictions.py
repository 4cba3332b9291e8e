"""Raw predictions: the output tensors of an ONNX file or of a server, checked and turned into logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from stillroom.errors import InputError
from stillroom.formatting import counted
from stillroom.teachers.offers import SUM_TOLERANCE, log_probabilities, one_hot_logits, top_k_logits
from stillroom.teachers.teacher import Offer


class RawPredictions:
    """Turns the outputs of one model into logits.

    Args:
        offers: what the outputs hold.
        classes: names of the classes; None if nobody has named them. Required for top-k and labels, whose tensors do
            not tell the number of classes.
        trial: the outputs for one or more images, from which the number of classes is taken.
        source: the model as the user names it, for messages.
        say: called with a warning if the outputs look like something else.

    Attributes:
        classes: names of the classes or None.
        class_count: their number.

    Raises:
        InputError: the outputs have another shape, are no probabilities, or do not fit the names.
    """

    def __init__(
        self,
        offers: Offer,
        classes: Sequence[str] | None,
        trial: Sequence[Tensor],
        source: str,
        say: Callable[[str], None] = print,
    ) -> None:
        self.offers, self._source = offers, source
        self.classes = None if classes is None else tuple(map(str, classes))
        if offers in ("top-k", "labels"):
            if self.classes is None:
                raise InputError(
                    f"{source} offers {offers}, which does not tell the number of its classes; give teacher_classes="
                )
            self.class_count = len(self.classes)
        else:
            self.class_count = self._columns(trial[0])
            self._check_kind(trial[0].float(), say)
        self.logits(trial)

    def logits(self, outputs: Sequence[Tensor]) -> Tensor:
        """Logits, float32 (B, classes), of the tensors that the model returned.

        Probabilities become their logarithm. The mass that top-k probabilities leave is spread evenly over the other
        classes.

        Raises:
            InputError: the model predicts a class that ``classes`` does not have.
        """
        if self.offers == "logits":
            return outputs[0].float()
        if self.offers == "probabilities":
            return log_probabilities(outputs[0])
        classes = outputs[0].long().reshape(len(outputs[0]), -1)
        if bool((classes < 0).any() or (classes >= self.class_count).any()):
            raise InputError(
                f"{self._source} predicts the class {int(classes.max())}, counted from 0, and teacher_classes names "
                f"{self.class_count}; name all its classes in its order"
            )
        if self.offers == "labels":
            return one_hot_logits(classes[:, 0], self.class_count)
        return top_k_logits(classes, outputs[1], self.class_count)

    def _columns(self, output: Tensor) -> int:
        if output.ndim != 2 or output.shape[1] < 2:
            raise InputError(
                f"{self._source} returns {self.offers} of shape {tuple(output.shape)}; expected (images, classes) with "
                "two classes or more"
            )
        columns = output.shape[1]
        if self.classes is not None and len(self.classes) != columns:
            raise InputError(
                f"{self._source} predicts {counted(columns, 'class')}, and teacher_classes names {len(self.classes)}"
            )
        return columns

    def _check_kind(self, values: Tensor, say: Callable[[str], None]) -> None:
        """Refuse logits in the place of probabilities, and warn of probabilities in the place of logits."""
        low, high = values.aminmax()
        distributed = low >= 0 and high <= 1 and bool(((values.sum(1) - 1).abs() <= SUM_TOLERANCE).all())
        if self.offers == "probabilities" and not distributed:
            raise InputError(
                f"{self._source}: its output is no probabilities (values from {low:.3g} to {high:.3g}, and the first "
                f"row adds up to {values[0].sum():.3g}); give teacher_output=logits"
            )
        if self.offers == "logits" and distributed:
            say(f"warning: {self._source}: its output looks like probabilities; if it is, give "
                "teacher_output=probabilities")  # fmt: skip
