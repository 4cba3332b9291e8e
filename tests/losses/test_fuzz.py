"""Four thousand pairs of logits through every logit loss, and fewer features through every feature loss.

What must come out is finite: the value, and the gradient in the dtype that the loss computes in. Narrowed to the
student's own dtype a gradient may overflow, but only where its true value lies beyond that dtype.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from stillroom import losses
from stillroom.losses.feature.srd import srd_feature
from stillroom.losses.finite import NotFinite
from stillroom.losses.protocol import needs_of
from tests.losses.feature import test_contract as feature_contract

PAIRS = 4_000
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Powers of ten; float16 ends at 65504, and below 6e-8 it is 0.
POWERS = {torch.float16: (-7.5, 4.5)}
WIDE_POWERS = (-30.0, 30.0)

LOGIT_LOSSES: dict[str, Callable[[int], nn.Module]] = {
    "kd": lambda classes: losses.KD(),
    "dkd": lambda classes: losses.DKD(),
    "ldrld": lambda classes: losses.LDRLD(depth=min(7, classes)),
    "ldrld by union": lambda classes: losses.LDRLD(depth=min(7, classes), chosen_by="union"),
    "nkd": lambda classes: losses.NKD(),
    "dist": lambda classes: losses.DIST(),
    "ttm": lambda classes: losses.TTM(),
    "wttm": lambda classes: losses.WTTM(),
    "wsld": lambda classes: losses.WSLD(),
    "rld": lambda classes: losses.RLD(),
    "ctkd": lambda classes: losses.CTKD(),
    "swap": lambda classes: losses.SWAP(),
    "hard": lambda classes: losses.HardLabels(),
    "rc": lambda classes: losses.RC(),
    "revision": lambda classes: losses.REVISION(),
    "mlkd": lambda classes: losses.MLKD(),
    "mlkd standardized": lambda classes: losses.MLKD(standardized=True),
    "crld": lambda classes: losses.CRLD(),
    "normkd": lambda classes: losses.NormKD(),
    "normdkd": lambda classes: losses.NormDKD(),
    "luminet": lambda classes: Batch(losses.LumiNet()),
    "bild": lambda classes: losses.BiLD(),
    "pld": lambda classes: losses.PLD(),
    "uskd": lambda classes: Uskd(),
    "abkd": lambda classes: losses.ABKD(),
    "gkl": lambda classes: losses.GKL().connect(torch.zeros(2, classes)),
    "wkd_l": lambda classes: losses.WKDL().connect(nn.Linear(8, classes)),
    "standardized kd": lambda classes: losses.Standardized(losses.KD()),
    "standardized dkd": lambda classes: losses.Standardized(losses.DKD()),
    "standardized ldrld": lambda classes: losses.Standardized(losses.LDRLD(depth=min(7, classes))),
    "standardized nkd": lambda classes: losses.Standardized(losses.NKD()),
    "standardized dist": lambda classes: losses.Standardized(losses.DIST()),
    "standardized wsld": lambda classes: losses.Standardized(losses.WSLD()),
    "standardized rld": lambda classes: losses.Standardized(losses.RLD()),
    "standardized ctkd": lambda classes: losses.Standardized(losses.CTKD()),
    "ofa": lambda classes: Ofa(),
    "sdd kd": lambda classes: Regions(losses.KD()),
    "sdd dkd": lambda classes: Regions(losses.DKD()),
    "sdd standardized nkd": lambda classes: Regions(losses.Standardized(losses.NKD())),
}
if find_spec("numba") is not None:  # an extra
    LOGIT_LOSSES["ldrld numba"] = lambda classes: losses.LDRLD(depth=min(7, classes), backend="numba")
    LOGIT_LOSSES["ldrld numba by union"] = lambda classes: losses.LDRLD(
        depth=min(7, classes), backend="numba", chosen_by="union"
    )
# Squares without a scale: beyond float32 where the input is beyond its root. They say so.
SQUARES = {
    "revision", "normkd", "normdkd", "fitnet", "simkd", "reviewkd", "cc", "embed_mse", "fsp", "vid", "ab", "ofd",
    "catkd plain", "ft_initial", "gkl", "wkd_f",
}  # fmt: skip


class Uskd(nn.Module):
    """USKD with the teacher's logits for the weak head's."""

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return losses.uskd(student_logits, teacher_logits, target)


class Ofa(nn.Module):
    """OFA-KD without the stages of the student."""

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return losses.ofa(student_logits, teacher_logits, target, epsilon=1.5)


class Regions(nn.Module):
    """SDD on two regions, the second one the first with its classes in reverse order; regions are never half."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.sdd = losses.SDD(loss)

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        wide = (
            logits.to(torch.promote_types(logits.dtype, torch.float32)) for logits in (student_logits, teacher_logits)
        )
        pair = (torch.stack((logits, logits.flip(1)), 2) for logits in wide)
        return losses.sdd(*pair, target, self.sdd._region_rows)


class Batch(nn.Module):
    """A loss over the batch with one more sample, the first one with its classes in reverse order."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        pair = (torch.cat((logits, logits[:1].flip(1))) for logits in (student_logits, teacher_logits))
        loss: Tensor = self.loss(*pair)
        return loss


class Case(NamedTuple):
    student: Tensor
    teacher: Tensor
    target: Tensor
    kinds: str


class Drawer:
    """Random numbers of every kind that has ever broken a loss, from one seed."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def pick(self, choices: Any) -> Any:
        return choices[int(torch.randint(len(choices), (), generator=self.generator))]

    def magnitudes(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        low, high = POWERS.get(dtype, WIDE_POWERS)
        return 10 ** (low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64))

    def draw(self, kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        noise = torch.randn(shape, generator=self.generator, dtype=torch.float64)
        per_row = (shape[0], *[1] * (len(shape) - 1))
        top = 10 ** POWERS.get(dtype, WIDE_POWERS)[1]
        match kind:
            case "one magnitude per row":
                x = noise * self.magnitudes(per_row, dtype)
            case "a magnitude per value":
                x = noise.sign() * self.magnitudes(shape, dtype)
            case "one magnitude":
                x = noise * self.magnitudes((1,) * len(shape), dtype)
            case "ties":
                x = noise.round() * self.magnitudes(per_row, dtype)
            case "all equal":
                x = torch.ones(shape, dtype=torch.float64) * self.magnitudes(per_row, dtype)
            case "one huge":
                x = 0.1 * noise
                x.flatten()[int(torch.randint(x.numel(), (), generator=self.generator))] = self.pick((-top, top))
            case "signed zeros":
                x = 0.0 * noise
            case "subnormal":
                x = 1e-40 * noise
            case "saturated":
                x = top * noise.sign()
            case "offset":
                x = noise + self.magnitudes(per_row, dtype)
            case "equal rows":
                x = noise[:1].expand(shape) * self.magnitudes((1,) * len(shape), dtype)
            case _:
                x = 4.0 * noise
        limit = torch.finfo(dtype).max
        return x.clamp(-limit, limit).to(dtype)

    def pair(self, student: tuple[int, ...], teacher: tuple[int, ...]) -> tuple[Tensor, Tensor, str]:
        dtypes, kinds = (self.pick(DTYPES), self.pick(DTYPES)), (self.pick(KINDS), self.pick(KINDS))
        one = self.draw(kinds[0], student, dtypes[0])
        if student == teacher and self.pick(range(6)) == 0:
            return one, one.clone(), f"{kinds[0]} {dtypes[0]}, the same"
        return one, self.draw(kinds[1], teacher, dtypes[1]), f"{kinds[0]} {dtypes[0]}, {kinds[1]} {dtypes[1]}"


KINDS = (
    "one magnitude per row", "a magnitude per value", "one magnitude", "ties", "all equal", "one huge", "signed zeros",
    "subnormal", "saturated", "offset", "equal rows", "normal",
)  # fmt: skip


@cache
def logit_cases() -> tuple[Case, ...]:
    drawer, cases, pairs = Drawer(0), [], 0
    while pairs < PAIRS:
        shape = drawer.pick((1, 2, 5, 24, 64)), drawer.pick((2, 3, 7, 10, 40, 100))
        target = torch.randint(shape[1], shape[:1], generator=drawer.generator)
        student, teacher, kinds = drawer.pair(shape, shape)
        cases.append(Case(student, teacher, target, f"{kinds} {shape}"))
        pairs += shape[0]
    return tuple(cases)


def value_and_gradients(run: Callable[..., Tensor], students: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    leaves = [student.detach().clone().requires_grad_() for student in students]
    loss = run(*leaves)
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
    return loss.detach(), [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def check_finite_or_refused(name: str, run: Callable[..., Tensor], students: list[Tensor], kinds: str) -> None:
    """Value and gradients are finite, or the loss squares numbers and says that these are too large."""
    with suppress(NotFinite) if name in SQUARES else nullcontext():
        loss, gradients = value_and_gradients(run, students)
        check_finite(run, students, loss, gradients, kinds)


def check_finite(
    run: Callable[..., Tensor], students: list[Tensor], loss: Tensor, gradients: list[Tensor], kinds: str
) -> None:
    assert loss.isfinite(), kinds
    if all(gradient.isfinite().all() for gradient in gradients):
        return
    # The same values in the dtype that the loss computes in: there the gradient has room.
    _, exact = value_and_gradients(run, [student.to(loss.dtype) for student in students])
    for student, gradient, true in zip(students, gradients, exact, strict=True):
        assert true.isfinite().all(), kinds
        assert not gradient.isnan().any(), kinds
        assert (true[gradient.isinf()].abs() > 0.99 * torch.finfo(student.dtype).max).all(), kinds


@pytest.mark.parametrize("name", LOGIT_LOSSES)
def test_thousands_of_pairs_of_logits(name: str) -> None:
    for case in logit_cases():
        module = LOGIT_LOSSES[name](case.student.shape[1])
        teachers = {"teacher_logits": case.teacher, "teacher_logits_strong": case.teacher.flip(1)}
        given = teachers | {"target": case.target, "epoch": 3}

        def run(student: Tensor, strong: Tensor, module: nn.Module = module, given: Any = given) -> Tensor:
            at_hand = given | {"student_logits": student, "student_logits_strong": strong}
            loss: Tensor = module(**{need: at_hand[need] for need in needs_of(module)})
            return loss

        check_finite_or_refused(name, run, [case.student, 0.5 * case.student], case.kinds)


def test_revision_refuses_only_what_is_beyond_its_dtype() -> None:
    refused = 0
    for case in logit_cases():
        try:
            losses.revision(case.student, case.teacher, case.target)
        except NotFinite:
            exact = losses.revision(case.student.double(), case.teacher.double(), case.target)
            assert exact > 1e35  # times the number of values, summed before the mean, beyond 3e38
            refused += 1
    assert 0 < refused < len(logit_cases()) / 2


MAPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "fitnet": losses.fitnet,
    "simkd": losses.simkd,
    "ab": losses.ab,
    "ofd": lambda s, t: losses.ofd(s, t, -torch.arange(s.shape[1]).float()),
    "vid": lambda s, t: losses.vid(s, torch.linspace(-3, 3, s.shape[1]), t),
    "reviewkd": lambda s, t: losses.reviewkd([s], [t]),
    "fsp": lambda s, t: losses.fsp([s, s.flip(0)], [t, t.flip(0)]),
    "ft": losses.ft,
    "ft cubed": lambda s, t: losses.ft(s, t, power=3, norm=2),
    "at": losses.at,
    "at root": lambda s, t: losses.at(s, t, power=0.5),
    "nst": losses.nst,
    "catkd": losses.catkd,
    "catkd plain": lambda s, t: losses.catkd(s, t, normalize=False),
    "sp": losses.sp,
    "ickd": losses.ickd,
    "wkd_f": losses.wkd_f,
}
EMBEDDINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rkd": losses.rkd,
    "pkt": losses.pkt,
    "cc": losses.cc,
    "itrd": losses.itrd,
    "srd": srd_feature,
    "sp": losses.sp,
}


def feature_pairs(dimensions: int, count: int) -> Iterator[tuple[Tensor, Tensor, str]]:
    drawer = Drawer(1)
    for _ in range(count):
        channels, side = drawer.pick((1, 3, 8)), drawer.pick((1, 2, 4))
        shape = (drawer.pick((2, 3, 6)), channels, side, side)[:dimensions]
        student, teacher, kinds = drawer.pair(shape, shape)
        yield student, teacher, f"{kinds} {shape}"


@pytest.mark.parametrize("name", MAPS)
def test_random_maps(name: str) -> None:
    for student, teacher, kinds in feature_pairs(4, 300):
        check_finite_or_refused(name, lambda s, t=teacher: MAPS[name](s, t), [student], kinds)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_random_embeddings(name: str) -> None:
    for student, teacher, kinds in feature_pairs(2, 300):
        check_finite_or_refused(name, lambda s, t=teacher: EMBEDDINGS[name](s, t), [student], kinds)


@pytest.mark.parametrize("name", feature_contract.MODULES)
def test_features_of_any_magnitude_through_a_modules_connectors(name: str) -> None:
    module, drawer = feature_contract.connected(name), Drawer(2)
    squares = SQUARES | {"ft", "ickd", "ofa"}  # their connectors have batch normalisation, which squares too
    ends = [(one, other) for one in (1e-30, 1e30) for other in (1e-30, 1.0, 1e12, 1e16, 1e30)]
    for seed, pair in enumerate(ends + [tuple(drawer.magnitudes((2,), torch.float32).tolist()) for _ in range(6)]):
        factors = dict(zip(("student", "teacher"), pair, strict=True))
        given = feature_contract.inputs(name, seed)
        for key, value in given.items():
            if key.startswith(("student", "teacher")) and not key.endswith("head"):
                scale = factors[key[:7]]
                given[key] = tuple(scale * t for t in value) if isinstance(value, tuple) else scale * value
        with suppress(NotFinite) if name in squares else nullcontext():
            loss, gradients = feature_contract.value_and_gradients(name, copy.deepcopy(module), given)
            assert loss.isfinite(), factors
            assert all(gradient.isfinite().all() for gradient in gradients), factors
