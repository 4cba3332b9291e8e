"""A pair's networks and their predictions, one at a time, so that many methods fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillroom.data import DataSet
from stillroom.engine.predictions import predictions_of, teacher_predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.report.aggregate import Pair
from stillroom.restore import dataset_of, student_of, teacher_of


@dataclass(frozen=True)
class Network:
    """A network and the validation images, normalised as it was trained.

    Attributes:
        model: in evaluation mode.
        data: the images.
    """

    model: nn.Module
    data: DataSet


class StudentLogits(Mapping[str, Tensor]):
    """Method label -> logits (N, C) of its student on the validation images, read anew at every access.

    Args:
        pair: its methods keep their order; of each method the run of its first seed counts.
    """

    def __init__(self, pair: Pair) -> None:
        self._runs = first_runs(pair)

    def __getitem__(self, method: str) -> Tensor:
        """Read one method's logits."""
        return predictions_of(self._runs[method]).logits

    def __iter__(self) -> Iterator[str]:
        """The methods in the pair's order."""
        return iter(self._runs)

    def __len__(self) -> int:
        """How many methods there are."""
        return len(self._runs)


def first_runs(pair: Pair) -> dict[str, RunFolder]:
    """The run of each method's first seed."""
    return {method: pair.runs(method)[0].run for method in pair.methods}


def classes_of(pair: Pair) -> tuple[str, ...]:
    """The names of the classes."""
    return tuple(str(name) for name in pair.cells[0].run.config()["classes"])


def labels_of(pair: Pair) -> Tensor:
    """The labels of the validation images, (N,)."""
    return predictions_of(pair.cells[0].run).labels


def val_pixels(pair: Pair, places: Sequence[int]) -> Tensor:
    """The validation images at ``places`` (n,) as they lie in the set, uint8 (n, channels, H, W)."""
    return dataset_of(pair.cells[0].run).val.pixels(torch.as_tensor(places, dtype=torch.int64))


def teacher_logits(pair: Pair) -> Tensor | None:
    """The teacher's logits (N, C) on the validation images; None if no run has them."""
    found = (teacher_predictions_of(cell.run) for cell in pair.cells)
    return next((predictions.logits for predictions in found if predictions is not None), None)


def teacher_network(pair: Pair) -> Network | None:
    """The teacher; None if no run had one or it cannot be built again: :func:`missing_teacher` says why."""
    found = _teacher(pair)
    return None if isinstance(found, str) else found


def missing_teacher(pair: Pair) -> str:
    """Why the teacher's network cannot be built again; empty where it can, or where no run had a teacher."""
    found = _teacher(pair)
    return found if isinstance(found, str) else ""


def _teacher(pair: Pair) -> Network | str:
    why = ""
    for cell in pair.cells:
        try:
            data = dataset_of(cell.run)
            model = teacher_of(cell.run, data)
        except InputError as error:
            why = why or str(error)
            continue
        if model is not None:
            return Network(model, data)
    return why


def student_networks(pair: Pair) -> Iterator[tuple[str, Network]]:
    """Each method's label and student, built when its turn comes."""
    for method, run in first_runs(pair).items():
        yield method, _student(run)


def normalised(data: DataSet, places: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Some validation images as a network takes them, and their labels.

    Args:
        data: of the network.
        places: in the validation set, one or more, in any order.

    Returns:
        Images (n, channels, H, W), float32, and labels (n,).
    """
    chosen = torch.as_tensor(places)
    some = data.val.at(chosen)
    batch = next(some.loader(batch_size=len(some), input_format=data.input_format, shuffle=False).epoch(0))
    return batch.images, batch.labels


def _student(run: RunFolder) -> Network:
    data = dataset_of(run)
    return Network(student_of(run, data), data)
