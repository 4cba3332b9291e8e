"""A pretrained model that is measured as it is: with its own classes and its own input, mapped to those of the data."""

from __future__ import annotations

from collections.abc import Callable

import torch

from stillroom.config import DataOptions
from stillroom.data import DataSet
from stillroom.prepare.network_teacher import network_teacher
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.device import Machine
from stillroom.teachers.class_map import Unmapped, make_class_map
from stillroom.teachers.class_mapped import ClassMapped
from stillroom.teachers.teacher import Teacher
from stillroom.teachers.teacher_entry import TeacherEntry
from stillroom.trust import Trust


def published_model(
    name: str,
    data: DataSet,
    options: DataOptions,
    machine: Machine,
    say: Callable[[str], object],
    *,
    checkpoint: str | None,
    pretrained: bool,
    class_map: str,
    unmapped: Unmapped,
    trust: Trust,
) -> Teacher:
    """Build a model with published weights, or with others from a file, for predictions of the data's classes.

    Args:
        name: as ``teacher=`` takes it.
        data: the images.
        options: ``image_size``, ``mean`` and ``std`` change the model's input.
        machine: where it computes.
        say: told how classes are mapped and how it takes images.
        checkpoint: file of its weights, or None.
        pretrained: whether it has the published weights.
        class_map: how its classes become those of the data.
        unmapped: what to do with a class of the data that it does not have.
        trust: whether the name may be imported or fetched.

    Raises:
        InputError: it cannot be built, or its classes do not fit the data's.
    """
    entry = TeacherEntry(
        teacher=name, checkpoint=checkpoint, pretrained=pretrained, image_size=options.image_size, mean=options.mean,
        std=options.std, class_map=class_map, unmapped=unmapped,
    )  # fmt: skip

    def tell(line: str) -> None:
        say(line)

    model, _ = network_teacher(entry, None, Inputs(trust=trust), data, tell)
    mapping = make_class_map(model.classes, model.class_count, data.train.classes, class_map, unmapped=unmapped)
    for line in mapping.describe():
        say(f"{name}: {line}")
    model.place(
        machine, data.val.pixels(torch.arange(min(2, len(data.val)))).to(machine.device), layout=torch.channels_last
    )
    return model if mapping.is_identity else ClassMapped(model, mapping, data.train.classes)
