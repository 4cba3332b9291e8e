"""Class map: a teacher's classes become the classes of the data."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from stillroom.errors import InputError
from stillroom.files import first_few, shown
from stillroom.formatting import counted
from stillroom.teachers.class_map_file import read_class_map
from stillroom.teachers.class_matching import FILE_FIX, match_classes

# What to do with a class of the data that no class of the teacher stands for.
Unmapped = Literal["refuse", "lowest"]


class _Gather(NamedTuple):
    """Index tensors of a class map on one device.

    Attributes:
        members: teacher classes of the data classes with about the same number of them, (classes, width); filled up
            with the index one past the last teacher class.
        order: where the column of each data class stands among the columns of ``members``; None if it is the same.
        table: for each teacher class its data class, or -1.
    """

    members: tuple[Tensor, ...]
    order: Tensor | None
    table: Tensor


@dataclass(frozen=True)
class ClassMap:
    """Which class of the data each class of a teacher stands for.

    The probability of a data class is the sum of its teacher classes' probabilities, so its logit is the logsumexp of
    theirs. Teacher classes without a data class are dropped: the others keep their proportions.

    Attributes:
        index: for each teacher class the index of its data class, or -1 where it has none.
        class_count: the number of data classes.
        unmapped: how a data class without a teacher class is treated. "lowest": it gets the smallest mapped logit of
            each image. It is no less likely than the least likely mapped class. Minus infinity, its exact logit, would
            make losses and their gradients infinite or NaN.
        by: how the classes were matched, in words.
        teacher_classes: the names of the teacher's classes, for :meth:`describe`; None where they are unknown.
        data_classes: the names of the data's classes, for :meth:`describe`.

    Raises:
        InputError: an index is out of range, no class is mapped, or a data class has no teacher class while
            ``unmapped`` is "refuse".
    """

    index: tuple[int, ...]
    class_count: int
    unmapped: Unmapped = "refuse"
    by: str = field(default="", compare=False)
    teacher_classes: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    data_classes: tuple[str, ...] | None = field(default=None, compare=False, repr=False)
    _gathers: dict[torch.device, _Gather] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        outside = [place for place in self.index if not -1 <= place < self.class_count]
        if outside:
            raise InputError(f"class map: index {outside[0]}; give -1 or an index below {self.class_count}")
        missing = self.missing
        if missing and (self.unmapped == "refuse" or len(missing) == self.class_count):
            names = first_few([self._data_name(place) for place in missing])
            raise InputError(
                f"class_map: {len(missing):,} of the {counted(self.class_count, 'class')} of the data have no class of "
                f"the teacher: {names}; {FILE_FIX}, or unmapped=lowest, which gives such a class the smallest mapped "
                "logit of each image"
            )

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The teacher classes of each data class."""
        groups: list[list[int]] = [[] for _ in range(self.class_count)]
        for teacher_class, place in enumerate(self.index):
            if place >= 0:
                groups[place].append(teacher_class)
        return tuple(map(tuple, groups))

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """The data classes without a teacher class."""
        return tuple(place for place, group in enumerate(self.groups) if not group)

    @property
    def is_identity(self) -> bool:
        """Whether teacher and data have the same classes in the same order."""
        return self.index == tuple(range(self.class_count))

    @cached_property
    def identity(self) -> str:
        """Text that differs between two maps that compute something different; empty for the identity."""
        if self.is_identity:
            return ""
        text = f"{self.index} {self.class_count} {self.unmapped if self.missing else ''}"
        return f"class map {hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def apply(self, logits: Tensor) -> Tensor:
        """Map a teacher's logits.

        Args:
            logits: (N, teacher classes), any floating dtype and device. Minus infinity is a probability of 0.

        Returns:
            float32 (N, data classes). A data class with one teacher class has that class's logit, bit for bit.
        """
        values = logits.float()
        if self.is_identity:
            return values
        gather = self._gather(values.device)
        padded = F.pad(values, (0, 1), value=-torch.inf)
        columns = [_log_sum(padded, members) for members in gather.members]
        if self.missing:
            mapped = torch.cat(columns, 1)
            columns.append(mapped.masked_fill(mapped == -torch.inf, torch.inf).amin(1, keepdim=True))
        joined = torch.cat(columns, 1)
        return joined if gather.order is None else joined.index_select(1, gather.order)

    def label_map(self, labels: Tensor) -> Tensor:
        """Map predicted labels.

        Args:
            labels: int64 (N,), indices of teacher classes.

        Returns:
            int64 (N,), indices of data classes; -1 where the predicted class is no class of the data.
        """
        return self._gather(labels.device).table[labels]

    def describe(self) -> list[str]:
        """What was mapped, in lines for the user; none for the identity."""
        if self.is_identity:
            return []
        used = [(one, place) for one, place in enumerate(self.index) if place >= 0]
        examples = "; ".join(f"{self._teacher_name(one)} -> {self._data_name(place)}" for one, place in used[:3])
        unused = len(self.index) - len(used)
        mapped, by = self.class_count - len(self.missing), f", by {self.by}" if self.by else ""
        lines = [
            f"class map: {counted(mapped, 'class')} of the data from {len(used):,} of the teacher's "
            f"{len(self.index):,}{by}: {examples}{'; …' if used[3:] else ''}"
        ]
        if unused:
            lines.append(f"class map: {counted(unused, 'class')} of the teacher not used")
        several = sum(len(group) > 1 for group in self.groups)
        if several:
            lines.append(f"class map: {counted(several, 'class')} of the data from several teacher classes each")
        if self.missing:
            names = first_few([self._data_name(place) for place in self.missing])
            lines.append(
                f"class map: {counted(len(self.missing), 'class')} of the data without a teacher class: {names}; the "
                "logit is the smallest mapped one of each image"
            )
        return lines

    def _teacher_name(self, index: int) -> str:
        return str(index) if self.teacher_classes is None else shown(self.teacher_classes[index], 60)

    def _data_name(self, index: int) -> str:
        return str(index) if self.data_classes is None else shown(self.data_classes[index], 60)

    def _gather(self, device: torch.device) -> _Gather:
        """The index tensors on a device; made once, so that a batch waits for no copy."""
        if device not in self._gathers:
            # Widths are powers of 2: few steps, and no more than twice the teacher's classes in all.
            width_of = {place: 1 << (len(group) - 1).bit_length() for place, group in enumerate(self.groups) if group}
            places = sorted(width_of, key=lambda place: (width_of[place], place))
            members = []
            for width, same in itertools.groupby(places, width_of.__getitem__):
                rows = [(*self.groups[place], *[len(self.index)] * width)[:width] for place in same]
                members.append(torch.tensor(rows, device=device))
            column = {place: number for number, place in enumerate(places)}
            order = [column.get(place, len(places)) for place in range(self.class_count)]
            in_order = order == list(range(self.class_count))
            self._gathers[device] = _Gather(
                tuple(members),
                None if in_order else torch.tensor(order, device=device),
                torch.tensor(self.index, device=device),
            )
        return self._gathers[device]


def _log_sum(logits: Tensor, members: Tensor) -> Tensor:
    """The logsumexp of each row of members, (N, rows); the logit itself where a row has one member."""
    picked = logits.index_select(1, members.flatten())
    return picked if members.shape[1] == 1 else picked.view(-1, *members.shape).logsumexp(2)


def make_class_map(
    teacher_classes: Sequence[str] | None,
    class_count: int,
    data_classes: Sequence[str],
    how: str = "auto",
    *,
    unmapped: Unmapped = "refuse",
) -> ClassMap:
    """Map the classes of a teacher to those of the data.

    Args:
        teacher_classes: the names of the teacher's classes in the order of its logits; None where they are unknown.
        class_count: the number of the teacher's classes.
        data_classes: the names of the data's classes.
        how: "auto" matches names, WordNet ids and the names of ImageNet's classes
            (:func:`~stillroom.teachers.class_matching.match_classes`), and takes classes without names in the given
            order if their number is equal; "none" takes the classes in the given order whatever their names; else the
            path of a CSV or YAML file (:func:`~stillroom.teachers.class_map_file.read_class_map`).
        unmapped: what to do with a class of the data that no class of the teacher stands for.

    Raises:
        InputError: names and number disagree, the classes do not match, or the file cannot be used.
    """
    teacher = None if teacher_classes is None else tuple(teacher_classes)
    data = tuple(data_classes)
    if teacher is not None and len(teacher) != class_count:
        raise InputError(
            f"teacher_classes: {counted(len(teacher), 'name')} for a teacher with {counted(class_count, 'class')}; "
            "give one name for each, in the order of the logits"
        )
    if how == "auto":
        index, by = _matched(teacher, class_count, data)
    elif how == "none":
        index, by = _in_order(class_count, data, "class_map=none"), "order"
    else:
        index, by = read_class_map(how, teacher, class_count, data), f"the file {shown(how)}"
    return ClassMap(index, len(data), unmapped, by, teacher, data)


def _matched(teacher: tuple[str, ...] | None, class_count: int, data: tuple[str, ...]) -> tuple[tuple[int, ...], str]:
    """The data class of each teacher class, and how they were matched."""
    match = match_classes(teacher, class_count, data)
    if match is None and teacher is None:
        return _in_order(class_count, data, "class_map=auto"), "order"
    if match is None:
        raise InputError(
            f"class_map=auto: no class of the data ({first_few(data)}) is a class of the teacher "
            f"({first_few(teacher or ())}) by name or WordNet id; {FILE_FIX}, or class_map=none if both have the same "
            "classes in the same order"
        )
    index = [-1] * class_count
    for place, candidates in enumerate(match.candidates):
        for one in candidates:
            index[one] = place
    return tuple(index), match.by


def _in_order(class_count: int, data: tuple[str, ...], what: str) -> tuple[int, ...]:
    """The identity; classes are taken in their order.

    Raises:
        InputError: the numbers differ.
    """
    if class_count != len(data):
        raise InputError(
            f"{what}: the teacher has {counted(class_count, 'class')} and the data {len(data):,}, so their order says "
            f"nothing; name the teacher's classes with teacher_classes, or {FILE_FIX}"
        )
    return tuple(range(class_count))
