"""A student that answers with the teacher's classifier: the model that SimKD trains."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from stillroom.errors import InputError
from stillroom.models.hooks import FeatureTap, Point, inside
from stillroom.models.output import evaluating
from stillroom.models.probe import examine
from stillroom.models.watch import Watch

LARGEST = 2**31  # weights of a projector and a head that a file may ask for; 8192 channels are below it


class ReusedHead(nn.Module):
    """The user's student up to its final map, a projector to the teacher's channels, and the teacher's last layer.

    The projector is the published bottleneck: convolutions 1x1, 3x3 and 1x1, each followed by batch norm and ReLU.
    The output of the submodule ``projected`` is the map that SimKD compares with the teacher's. Its global average
    goes through ``head``, a frozen copy of the teacher's.

    The student runs whole: what comes after its final map, its own classifier above all, stays in the module
    because its class is not rewritten, but nothing depends on it and it gets no gradient. The map is read by a
    hook on the student that holds nothing between two passes; copies and pickles bring it along with their own
    student, and the state dict holds the three modules and nothing else. After :meth:`let_go` the student has no hook
    between two passes.

    Args:
        student: any module that makes a final map (B, student_channels, H, W).
        final_map: where that map is: a submodule's name for its output, or a :class:`Point`.
        student_channels: of that map.
        head: the teacher's last linear layer. Its input width is the number of channels projected to.
        factor: the projector is ``head.in_features // factor`` wide inside.
        size: height and width of the teacher's final map. A larger map of the student is average-pooled to it
            before it is projected, each side by itself; a smaller one stays. None: never.

    Raises:
        InputError: the student has no such submodule, the factor leaves no channel, or a size is below 1.

    Example:
        >>> import torch
        >>> from stillroom.models import ZOO
        >>> teacher, student = ZOO["resnet8x4"](10), ZOO["resnet8"](10)
        >>> reused = ReusedHead(student, "layer3", 64, teacher.fc)
        >>> reused(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        student: nn.Module,
        final_map: str | Point,
        student_channels: int,
        head: nn.Linear,
        *,
        factor: int = 2,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if factor < 1 or head.in_features // factor < 1:
            raise InputError(
                f"factor is {factor}: it must be between 1 and the teacher's {head.in_features} channels (2 is usual)"
            )
        if student_channels < 1 or (size is not None and min(size) < 1):
            raise InputError(f"student_channels is {student_channels} and size {size}: both must be at least 1")
        self.student = student
        self.final_map = Point(final_map) if isinstance(final_map, str) else final_map
        self._listener = _Listener()
        # A hook from the start, not one for each pass: torch.compile sees one module then.
        self._stays = True
        self._listen()
        self.size = size
        self.factor = factor
        self.projector = _projector(student_channels, head.in_features, head.in_features // factor)
        self.projected = nn.Identity()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = copy.deepcopy(head).requires_grad_(False)
        anchor = next(student.parameters(), None)
        if anchor is not None:
            for part in (self.projector, self.head):
                part.to(anchor.device)

    def plan(self) -> dict[str, Any]:
        """What :func:`from_plan` needs to build this form again, in plain values."""
        return {
            "final_map": [self.final_map.module, self.final_map.side],
            "student_channels": self.projector[0].in_channels,
            "teacher_channels": self.head.in_features,
            "bias": self.head.bias is not None,
            "factor": self.factor,
            "size": None if self.size is None else list(self.size),
        }

    def let_go(self) -> None:
        """Take the hook off the student, who may be somebody else's; each pass brings its own from now on."""
        source = _submodule(self.student, self.final_map.module)
        for hooks in (source._forward_hooks, source._forward_pre_hooks):
            for key in [key for key, hook in hooks.items() if hook is self._listener]:
                del hooks[key]
        self._stays = False

    def _listen(self) -> RemovableHandle:
        source = _submodule(self.student, self.final_map.module)
        if self.final_map.side == "input":
            return source.register_forward_pre_hook(self._listener)
        return source.register_forward_hook(self._listener)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) -> logits (B, classes) of the teacher's classifier."""
        self._listener.heard = None
        if self._stays:
            self.student(images)
        else:
            handle = self._listen()
            try:
                self.student(images)
            finally:
                handle.remove()
        feature, self._listener.heard = self._listener.heard, None
        if not isinstance(feature, Tensor) or feature.dim() != 4:
            shape = f"of shape {tuple(feature.shape)}" if isinstance(feature, Tensor) else "where no tensor came by"
            raise InputError(f"final_map is {self.final_map}, {shape}: SimKD needs a map (B, C, H, W)")
        projected = self.projected(self.projector(self._pooled(feature)))
        logits: Tensor = self.head(self.flatten(self.pool(projected)))
        return logits

    def _pooled(self, feature: Tensor) -> Tensor:
        """The map, no larger than the teacher's."""
        if self.size is None:
            return feature
        height, width = min(feature.shape[2], self.size[0]), min(feature.shape[3], self.size[1])
        if feature.shape[2:] == (height, width):
            return feature
        if feature.shape[2] % height or feature.shape[3] % width:
            return functional.adaptive_avg_pool2d(feature, (height, width))
        return functional.avg_pool2d(feature, (feature.shape[2] // height, feature.shape[3] // width))


def reuse_head(student: nn.Module, teacher: nn.Module, images: Tensor, *, factor: int = 2) -> ReusedHead:
    """Give a student the teacher's classifier.

    Args:
        student: ends in the global average of a map and one linear layer.
        teacher: ends in the same way.
        images: two or more images (B, C, H, W) that both accept.
        factor: as for :class:`ReusedHead`.

    Raises:
        InputError: one of them ends in another way, or the factor is out of range.
    """
    maps = []
    for side, model in (("student", student), ("teacher", teacher)):
        anatomy = examine(model, images)
        reason = anatomy.lacks("final_map")
        if reason or anatomy.final_map is None:
            raise InputError(f"the {side} cannot share a classifier: {reason}")
        watch = Watch(model, anatomy, ("final_map", "head"))
        with evaluating(model), torch.no_grad():
            model(images)
        maps.append((anatomy.final_map, watch.read()))
        watch.close()
    (place, own), (_, theirs) = maps
    height, width = theirs["final_map"].shape[2:]
    return ReusedHead(student, place, own["final_map"].shape[1], theirs["head"], factor=factor, size=(height, width))


def from_plan(student: nn.Module, plan: dict[str, Any], num_classes: int) -> ReusedHead:
    """Build a :class:`ReusedHead` as :meth:`ReusedHead.plan` describes it, with fresh weights to load others into.

    Raises:
        InputError: the plan, which comes from a file, describes none.
    """
    try:
        (module, side), size = plan["final_map"], plan["size"]
        wide, given = plan["teacher_channels"], plan["student_channels"]
        counts = [wide, given, plan["factor"], *(size or (1, 1))]
        fits = side in ("input", "output") and isinstance(module, str) and len(counts) == 5
        fits = fits and all(type(count) is int and count > 0 for count in counts)
        fits = fits and wide * (given + 9 * wide + num_classes) <= LARGEST and isinstance(plan["bias"], bool)
    except (KeyError, TypeError, ValueError):
        fits = False
    if not fits:
        raise InputError("reused_head: what is recorded of the teacher's classifier belongs to no run of ours")
    head = nn.Linear(plan["teacher_channels"], num_classes, bias=plan["bias"])
    return ReusedHead(
        student,
        Point(module, side),
        plan["student_channels"],
        head,
        factor=plan["factor"],
        size=None if size is None else (size[0], size[1]),
    )


class _Listener:
    """A hook that keeps a copy of what a submodule is given or returns, until it is fetched."""

    def __init__(self) -> None:
        self.heard: Any = None

    def __call__(self, _module: nn.Module, *passed: Any) -> None:
        """Keep the first input (as a hook before the pass) or output (after it)."""
        heard = passed[-1]
        heard = heard[0] if isinstance(heard, (tuple, list)) and heard else heard
        # A copy: a later layer may work in place on the original.
        self.heard = heard.clone() if isinstance(heard, Tensor) else None

    def __reduce__(self) -> tuple[type[_Listener], tuple[()]]:
        # The student may have run alone: what was heard then, graph and all, is nobody's.
        return _Listener, ()


def _submodule(model: nn.Module, name: str) -> nn.Module:
    """The submodule of this name, in the model or inside its wrappers."""
    FeatureTap(model, [name]).close()  # refuses a wrong name and lists the nearest ones
    modules: dict[str, nn.Module] = {**dict(inside(model).named_modules()), **dict(model.named_modules())}
    return modules[name]


def _projector(given: int, wanted: int, inside: int) -> nn.Sequential:
    """Convolutions 1x1, 3x3, 1x1 from ``given`` to ``wanted`` channels, ``inside`` wide in between."""
    layers: list[nn.Module] = []
    for channels, made, kernel in ((given, inside, 1), (inside, inside, 3), (inside, wanted, 1)):
        layers.append(nn.Conv2d(channels, made, kernel, padding=kernel // 2, bias=False))
        layers += [nn.BatchNorm2d(made), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
