"""Fine-tuning: a backbone that is frozen in the first epochs, and smaller learning rates for layers below the head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from stillroom.config import OptimOptions
from stillroom.errors import InputError
from stillroom.methods import Method
from stillroom.models.classifier_head import head_names
from stillroom.models.hooks import inside

Group = dict[str, Any]  # a parameter group of an optimizer; lr_scale is its factor on the learning rate


def find_head(options: OptimOptions, method: Method, student: nn.Module, images: Tensor) -> tuple[str, ...]:
    """Find the student's head where the settings tell it from the backbone, and refuse settings that do not fit.

    Args:
        options: of the recipe.
        method: the losses.
        student: the module that is trained.
        images: two or more different images (B, C, H, W) that it accepts.

    Returns:
        Names of the submodules that are the head; empty where no setting concerns it.

    Raises:
        InputError: the student has no head, the losses do not train it, or timm cannot order the student's layers.
    """
    if options.layer_decay < 1:
        _layer_numbers(student, options.layer_decay)
    name = "freeze_epochs" if options.freeze_epochs else "backbone_lr_factor"
    value = getattr(options, name)
    if name == "backbone_lr_factor" and value == 1:
        return ()
    if method.projector_factor is not None:
        raise InputError(
            f"{name}={value}: with method={method.text!r} the student has the teacher's classifier and no head of its "
            f"own; leave {name} out"
        )
    if options.freeze_epochs and not _trains_head(method, options.freeze_epochs):
        raise InputError(
            f"freeze_epochs={value}: in these epochs no loss of method={method.text!r} trains the head; add ce or a "
            "loss on logits, or leave freeze_epochs out"
        )
    head = head_names(student, images)
    if not head:
        raise InputError(
            f"{name}={value}: {type(inside(student)).__name__} does not end in one linear layer, so that its head is "
            f"not known; leave {name} out"
        )
    return head


def _trains_head(method: Method, epochs: int) -> bool:
    """Whether a loss reads the student's logits in each of the first epochs."""
    if method.initial_epochs:  # in which the cross-entropy is not computed
        return False
    read = {"student_logits", "student_logits_strong"}
    steady = [term for term in method.terms if term.weight_at(1) > 0 and term.weight_at(epochs) > 0]
    return method.ce > 0 or any(read & {*term.needs} for term in steady)


def parameter_groups(
    student: nn.Module, connectors: Iterable[nn.Parameter], head: Sequence[str], options: OptimOptions
) -> list[Group]:
    """Sort the parameters that require a gradient by their factor on the learning rate.

    The head and the connectors have the factor 1. With ``backbone_lr_factor`` every other parameter has that factor.
    With ``layer_decay`` a layer has ``layer_decay ** d``, where ``d`` is its number of layers below the head, as timm
    counts them (Clark et al., 2020, "ELECTRA").

    Args:
        student: the module that is trained.
        connectors: parameters of the method.
        head: from :func:`find_head`.
        options: of the recipe.

    Returns:
        Groups for an optimizer, each with ``params`` and, unless there is one group only, ``lr_scale`` in (0, 1].

    Raises:
        InputError: timm cannot order the student's layers.
    """
    trained = [p for p in [*student.parameters(), *connectors] if p.requires_grad]
    factors = _factors(student, head, options)
    if not factors:
        return [{"params": trained}]
    groups: dict[float, Group] = {}
    for parameter in trained:
        factor = factors.get(id(parameter), 1.0)
        groups.setdefault(factor, {"params": [], "lr_scale": factor})["params"].append(parameter)
    return list(groups.values())


def _factors(student: nn.Module, head: Sequence[str], options: OptimOptions) -> dict[int, float]:
    """The factors below 1 by the identity of the parameter."""
    named = dict(inside(student).named_parameters())
    if options.layer_decay < 1:
        numbers = _layer_numbers(student, options.layer_decay)
        last = max(numbers.values())
        return {id(named[name]): options.layer_decay ** (last - number) for name, number in numbers.items()}
    if options.backbone_lr_factor < 1:
        of_head = _ids_in(student, head)
        return {id(p): options.backbone_lr_factor for p in student.parameters() if id(p) not in of_head}
    return {}


def _layer_numbers(student: nn.Module, layer_decay: float) -> dict[str, int]:
    """The number of each parameter's layer by the parameter's name, from the images up, as timm counts."""
    model: Any = inside(student)
    numbers: dict[str, int] = {}
    if hasattr(model, "group_matcher"):
        from timm.models import group_parameters

        numbers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    if max(numbers.values(), default=0) < 1:
        raise InputError(
            f"layer_decay={layer_decay}: {type(model).__name__} does not name its layers in order, as timm's models do "
            "(group_matcher); use backbone_lr_factor"
        )
    return numbers


def _ids_in(student: nn.Module, head: Sequence[str]) -> set[int]:
    return {id(p) for name in head for p in inside(student).get_submodule(name).parameters()}


class Backbone:
    """All of a student below its head.

    Args:
        student: the module that is trained.
        head: names of the submodules that are the head; empty if the backbone is never frozen.
        options: the first epochs, in which it is frozen, and whether its batch norms keep their statistics.
    """

    def __init__(self, student: nn.Module, head: Sequence[str], options: OptimOptions) -> None:
        self._freeze_epochs = options.freeze_epochs
        norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
        self._norms = [m for m in student.modules() if options.freeze_norms and isinstance(m, norms)]
        of_head = _ids_in(student, head)
        heads = [inside(student).get_submodule(name) for name in head]
        not_frozen = {id(module) for layer in heads for module in layer.modules()}
        self._parameters = [p for p in student.parameters() if head and p.requires_grad and id(p) not in of_head]
        self._modules = [m for m in student.modules() if head and id(m) not in not_frozen]

    def begin_epoch(self, epoch: int) -> None:
        """Freeze or release it for the training steps of an epoch, counted from 1.

        A frozen backbone gets no gradients and is in evaluation mode, in which batch-norm statistics do not change and
        nothing is dropped. Frozen batch norms normalise with their running statistics in every epoch; their weights
        are trained.
        """
        self.release()
        for norm in self._norms:
            norm.training = False
        if epoch > self._freeze_epochs:
            return
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        for module in self._modules:
            module.training = False

    def release(self) -> None:
        """Let its parameters be trained again. The modes of its modules do not change."""
        for parameter in self._parameters:
            parameter.requires_grad_(True)
