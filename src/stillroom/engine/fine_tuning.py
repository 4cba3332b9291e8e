"""Fine-tuning: frozen parts, smaller learning rates below the head, and parameters without weight decay."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from stillroom.config import OptimOptions
from stillroom.errors import InputError, did_you_mean
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
        InputError: the student has no head, the losses do not train it, timm cannot order the student's layers, or
            ``freeze`` names no submodule or leaves nothing to train.
    """
    _check_frozen(student, options)
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
    if options.freeze_epochs and _ids_in(student, head) <= _frozen_ids(student, options):
        raise InputError(f"freeze={options.freeze}: the head is frozen, which freeze_epochs={value} alone trains")
    return head


def frozen_modules(student: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """The submodules of a student that patterns name, with all modules inside them.

    Args:
        student: the module that is trained.
        patterns: names of submodules, in which * and ? stand for other characters.

    Raises:
        InputError: a pattern names no submodule.
    """
    named = {name: module for name, module in inside(student).named_modules() if name}
    found: dict[int, nn.Module] = {}
    for pattern in patterns:
        matches = fnmatch.filter(named, pattern)
        if not matches:
            close = difflib.get_close_matches(pattern, named, n=3)
            top = ", ".join(name for name, _ in inside(student).named_children())
            raise InputError(
                f"freeze={pattern}: {type(inside(student)).__name__} has no submodule of that name"
                f"{did_you_mean(close, f'; it has {top}')}"
            )
        found |= {id(module): module for name in matches for module in named[name].modules()}
    return list(found.values())


def _frozen_ids(student: nn.Module, options: OptimOptions) -> set[int]:
    """The identities of the parameters that are frozen for the whole run."""
    return {id(p) for module in frozen_modules(student, options.freeze or ()) for p in module.parameters()}


def _check_frozen(student: nn.Module, options: OptimOptions) -> None:
    frozen = _frozen_ids(student, options)
    if options.freeze and not any(p.requires_grad and id(p) not in frozen for p in student.parameters()):
        raise InputError(f"freeze={options.freeze}: every parameter of the trained model is frozen; freeze less")


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
    """Sort the parameters that are trained by their factor on the learning rate and by their weight decay.

    The head and the connectors have the factor 1. With ``backbone_lr_factor`` every other parameter has that factor.
    With ``layer_decay`` a layer has ``layer_decay ** d``, where ``d`` is its number of layers below the head, as timm
    counts them (Clark et al., 2020, "ELECTRA"). With ``no_decay_norms`` parameters of one dimension (norms and biases),
    and those that the student's ``no_weight_decay()`` names, as timm models have it, are in groups without weight
    decay.

    Args:
        student: the module that is trained.
        connectors: parameters of the method.
        head: from :func:`find_head`.
        options: of the recipe.

    Returns:
        Groups for an optimizer, each with ``params``; with ``lr_scale`` in (0, 1] where factors are set, and with
        ``weight_decay`` 0 where there is none.

    Raises:
        InputError: timm cannot order the student's layers.
    """
    frozen = _frozen_ids(student, options)
    trained = [p for p in [*student.parameters(), *connectors] if p.requires_grad and id(p) not in frozen]
    factors, exempt = _factors(student, head, options), _without_decay(student, trained, options)
    groups: dict[tuple[float, bool], Group] = {}
    for parameter in trained:
        factor, decayed = factors.get(id(parameter), 1.0), id(parameter) not in exempt
        settings = ({"lr_scale": factor} if factors else {}) | ({} if decayed else {"weight_decay": 0.0})
        groups.setdefault((factor, decayed), {"params": [], **settings})["params"].append(parameter)
    return list(groups.values())


def _without_decay(student: nn.Module, trained: Iterable[nn.Parameter], options: OptimOptions) -> set[int]:
    """The identities of the parameters without weight decay."""
    if not options.no_decay_norms:
        return set()
    model: Any = inside(student)
    names = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    named = {id(p) for name, p in model.named_parameters() if name in names}
    return named | {id(p) for p in trained if p.dim() <= 1}


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


class FrozenParts:
    """The frozen parts of a student: some for the whole run, and in the first epochs the backbone, all but its head.

    Args:
        student: the module that is trained.
        head: names of the submodules that are the head; empty if the backbone is never frozen.
        options: the parts and epochs, and whether batch norms keep their statistics.
    """

    def __init__(self, student: nn.Module, head: Sequence[str], options: OptimOptions) -> None:
        self._freeze_epochs = options.freeze_epochs
        norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
        self._norms = [m for m in student.modules() if options.freeze_norms and isinstance(m, norms)]
        of_head, frozen = _ids_in(student, head), _frozen_ids(student, options)
        heads = [inside(student).get_submodule(name) for name in head]
        not_frozen = {id(module) for layer in heads for module in layer.modules()}
        trained = [p for p in student.parameters() if p.requires_grad]
        self._frozen = [p for p in trained if id(p) in frozen]
        self._frozen_modules = frozen_modules(student, options.freeze or ())
        self._backbone = [p for p in trained if head and id(p) not in of_head]
        self._backbone_modules = [m for m in student.modules() if head and id(m) not in not_frozen]

    def begin_epoch(self, epoch: int) -> None:
        """Freeze or release the parts for the training steps of an epoch, counted from 1.

        A frozen part gets no gradients and is in evaluation mode, in which batch-norm statistics do not change and
        nothing is dropped. Frozen batch norms normalise with their running statistics in every epoch; their weights
        are trained.
        """
        self.release()
        for norm in self._norms:
            norm.training = False
        backbone = epoch <= self._freeze_epochs
        for parameter in [*self._frozen, *(self._backbone if backbone else [])]:
            parameter.requires_grad_(False)
        for module in [*self._frozen_modules, *(self._backbone_modules if backbone else [])]:
            module.training = False

    def release(self) -> None:
        """Let all parameters be trained again that were trained before. The modes of the modules do not change."""
        for parameter in [*self._frozen, *self._backbone]:
            parameter.requires_grad_(True)
