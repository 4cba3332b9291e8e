"""What every logit loss promises, whatever it computes."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom import losses
from stillroom.losses.protocol import needs_of, properties_of, settings_of
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make

MODULES: dict[str, Callable[[int], nn.Module]] = {
    "kd": lambda classes: losses.KD(temperature=2.0),
    "dkd": lambda classes: losses.DKD(temperature=2.0),
    "ldrld": lambda classes: losses.LDRLD(depth=min(5, classes), temperature=2.0),
    "ldrld by teacher": lambda classes: losses.LDRLD(depth=min(5, classes), temperature=2.0, chosen_by="teacher"),
    "ldrld by union": lambda classes: losses.LDRLD(depth=min(5, classes), temperature=2.0, chosen_by="union"),
    "ldrld with mass": lambda classes: losses.LDRLD(depth=min(5, classes), temperature=2.0, mass=3.0),
    "nkd": lambda classes: losses.NKD(temperature=2.0),
    # Warm: a nearly constant column amplifies rounding by up to 1e8 (the guard in the correlation).
    "dist": lambda classes: losses.DIST(temperature=20.0),
    "ttm": lambda classes: losses.TTM(gamma=0.2),
    "wttm": lambda classes: losses.WTTM(gamma=0.2),
    "wsld": lambda classes: losses.WSLD(temperature=2.0),
    "rld": lambda classes: losses.RLD(temperature=2.0),
    "ctkd": lambda classes: losses.CTKD(initial=-2.0),
    "swap": lambda classes: losses.SWAP(temperature=2.0),
    "hard": lambda classes: losses.HardLabels(),
    "lskd": lambda classes: losses.Standardized(losses.KD(temperature=2.0)),
    "mlkd": lambda classes: OneView(losses.MLKD(temperature=2.0)),
    "crld": lambda classes: OneView(losses.CRLD(temperature=2.0, weak_threshold=0.6, strong_threshold=0.4)),
    "normkd": lambda classes: losses.NormKD(),
    "normdkd": lambda classes: losses.NormDKD(),
    "luminet": lambda classes: losses.LumiNet(temperature=2.0),
    "bild": lambda classes: losses.BiLD(k=5, temperature=2.0),
    "pld": lambda classes: losses.PLD(temperature=2.0),
    "ofa": lambda classes: OfaOfLogits(),
    "abkd": lambda classes: losses.ABKD(temperature=2.0),
    "gkl": lambda classes: losses.GKL(temperature=2.0).connect(torch.zeros(2, classes)),
    "ikl": lambda classes: losses.GKL(gamma=1.0, normalize=False, class_weights=False),
    "wkd_l": lambda classes: losses.WKDL(gamma=10.0, temperature=2.0).connect(equal_distances(classes)),
}
NEED_TWO_SAMPLES = {"luminet"}


def equal_distances(classes: int) -> nn.Linear:
    """A classifier in which all classes are equally far apart, so that they have no order."""
    head = nn.Linear(classes, classes)
    nn.init.eye_(head.weight)
    return head


class OneView(nn.Module):
    """A loss on two views, given one twice."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.per_sample = properties_of(loss).per_sample

    def forward(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        loss: Tensor = self.loss(student_logits, teacher_logits, student_logits, teacher_logits)
        return loss


class OfaOfLogits(nn.Module):
    """OFA-KD without the stages of the student."""

    per_sample = True

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, target: Tensor) -> Tensor:
        return losses.ofa(student_logits, teacher_logits, target, epsilon=1.5)


every_loss = pytest.mark.parametrize("name", MODULES)


def every_loss_but(*names: str) -> pytest.MarkDecorator:
    """For a promise that the definition of some losses rules out; their own tests say what holds instead."""
    return pytest.mark.parametrize("name", [name for name in MODULES if name not in names])


def call(name: str, student: Tensor, teacher: Tensor, target: Tensor) -> Tensor:
    """Run a loss by name on what its forward asks for."""
    module = MODULES[name](max(2, student.shape[1] if student.dim() == 2 else 2))
    given_ = {"student_logits": student, "teacher_logits": teacher, "target": target, "epoch": 3}
    return module(**{key: given_[key] for key in needs_of(module)})


def assume_enough_samples(name: str, data: Logits) -> None:
    """Draw again for a loss that needs two samples."""
    assume(len(data.target) > 1 or name not in NEED_TWO_SAMPLES)


def value_and_gradient(name: str, data: Logits) -> tuple[Tensor, Tensor]:
    student = data.student.detach().clone().requires_grad_()
    loss = call(name, student, data.teacher, data.target)
    return loss.detach(), gradient_of(loss, student)


@pytest.mark.parametrize("name", [name for name in MODULES if properties_of(MODULES[name](5)).per_sample])
@QUICK
@given(data=logits())
def test_a_loss_that_says_so_is_the_mean_over_samples(name: str, data: Logits) -> None:
    whole = value_and_gradient(name, data)
    count = len(data.target)
    cut = max(1, count // 3)
    parts = [
        value_and_gradient(name, Logits(data.student[rows], data.teacher[rows], data.target[rows]))
        for rows in (slice(0, cut), slice(cut, count))
        if rows.start < count
    ]
    sizes = [len(gradient) / count for _, gradient in parts]
    loss = torch.stack([size * part for size, (part, _) in zip(sizes, parts, strict=True)]).sum()
    gradient = torch.cat([size * part for size, (_, part) in zip(sizes, parts, strict=True)])
    torch.testing.assert_close((loss, gradient), whole, rtol=1e-8, atol=1e-10)


def test_the_losses_that_relate_samples_are_no_more_than_these() -> None:
    assert {name for name in MODULES if not properties_of(MODULES[name](5)).per_sample} == {
        "dist", "mlkd", "luminet", "gkl"
    }  # fmt: skip


def test_the_gradient_of_a_learned_temperature_is_the_mean_over_parts() -> None:
    data, module = make(6, 9, seed=14), losses.CTKD(initial=0.5).double()
    gradients = []
    for rows, weight in ((slice(0, 6), 1.0), (slice(0, 2), 2 / 6), (slice(2, 6), 4 / 6)):
        loss = module(data.student[rows], data.teacher[rows], epoch=4)
        gradients.append(weight * gradient_of(loss, module.parameter))
    torch.testing.assert_close(gradients[1] + gradients[2], gradients[0])


@every_loss_but("luminet")
@QUICK
@given(data=logits(), seed=st.integers(0, 999))
def test_a_constant_added_to_a_row_changes_nothing(name: str, data: Logits, seed: int) -> None:
    shifts = 100 * torch.randn(2, len(data.target), 1, generator=torch.Generator().manual_seed(seed)).double()
    loss, gradient = value_and_gradient(name, data)
    moved = value_and_gradient(name, Logits(data.student + shifts[0], data.teacher + shifts[1], data.target))
    torch.testing.assert_close(moved, (loss, gradient), rtol=1e-8, atol=1e-10)


@every_loss
@QUICK
@given(data=logits(), seed=st.integers(0, 999))
def test_samples_and_classes_have_no_order(name: str, data: Logits, seed: int) -> None:
    assume_enough_samples(name, data)
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randperm(data.student.shape[0], generator=generator)
    classes = torch.randperm(data.student.shape[1], generator=generator)
    shuffled = Logits(
        data.student[samples][:, classes], data.teacher[samples][:, classes], classes.argsort()[data.target[samples]]
    )
    loss, gradient = value_and_gradient(name, data)
    expected = loss, gradient[samples][:, classes]
    torch.testing.assert_close(value_and_gradient(name, shuffled), expected, rtol=1e-9, atol=1e-11)


@every_loss_but(
    "nkd",
    "dist",
    "ttm",
    "wttm",
    "wsld",
    "rld",
    "swap",
    "hard",
    "pld",
    "normkd",
    "normdkd",
    "ofa",
    "gkl",
    "ikl",
    "wkd_l",
)
@QUICK
@given(data=logits(scales=(0.1, 5.0, 1e4, 1e30)))
def test_agreement_costs_nothing_and_pulls_nowhere(name: str, data: Logits) -> None:
    assume_enough_samples(name, data)
    for dtype, rounding in ((torch.float32, 5e-6), (torch.float64, 1e-12)):
        same = data.student.to(dtype)
        loss, gradient = value_and_gradient(name, Logits(same, same.clone(), data.target))
        assert loss.item() == pytest.approx(0.0, abs=rounding)
        assert gradient.abs().max().item() == pytest.approx(0.0, abs=rounding)


@every_loss_but("normkd", "normdkd", "gkl", "ikl")  # they grow with squared logits
@QUICK
@given(data=logits(scales=(1.0,)), powers=st.tuples(st.floats(-30, 30), st.floats(-30, 30)))
def test_any_magnitude_stays_finite(name: str, data: Logits, powers: tuple[float, float]) -> None:
    assume_enough_samples(name, data)
    for dtype in (torch.float32, torch.float64):
        student, teacher = (10.0 ** powers[0] * data.student).to(dtype), (10.0 ** powers[1] * data.teacher).to(dtype)
        loss, gradient = value_and_gradient(name, Logits(student, teacher, data.target))
        assert loss.isfinite()
        assert loss >= -2e-4  # rounding, times T^2 = 400
        assert gradient.isfinite().all()


@every_loss_but("luminet")
@QUICK
@given(data=logits())
def test_gradients_of_a_row_sum_to_zero(name: str, data: Logits) -> None:
    _, gradient = value_and_gradient(name, data)
    torch.testing.assert_close(gradient.sum(1), torch.zeros_like(gradient[:, 0]), rtol=0, atol=1e-10)


@every_loss_but("wsld")  # a weight that is a constant to the gradient
@pytest.mark.parametrize(("batch", "classes"), [(1, 2), (3, 7), (2, 12)])
def test_gradcheck(name: str, batch: int, classes: int) -> None:
    data = make(max(batch, 2) if name in NEED_TWO_SAMPLES else batch, classes, seed=3)
    student = data.student.requires_grad_()
    assert torch.autograd.gradcheck(lambda s: call(name, s, data.teacher, data.target), (student,))


@every_loss
def test_every_tensor_moves_with_the_module(name: str) -> None:
    module = MODULES[name](9).to("meta")
    assert all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    for part in module.modules():
        assert not [key for key, value in vars(part).items() if isinstance(value, Tensor)]


@every_loss
def test_the_upstream_gradient_scales(name: str) -> None:
    data = make(4, 9, seed=1)
    loss, gradient = value_and_gradient(name, data)
    student = data.student.requires_grad_()
    scaled = call(name, student, data.teacher, data.target)
    ((scaled * -2.5) ** 2).backward()
    torch.testing.assert_close(student.grad, 2 * 6.25 * loss * gradient)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    data = make(6, 11, seed=2)
    student, teacher = data.student.to(dtype).requires_grad_(), data.teacher.to(dtype)
    loss = call(name, student, teacher, data.target)
    exact, gradient = value_and_gradient(name, Logits(student.detach().double(), teacher.double(), data.target))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)
    half_gradient = gradient_of(loss, student)
    assert half_gradient.dtype == dtype
    torch.testing.assert_close(half_gradient.double(), gradient, rtol=4 * torch.finfo(dtype).eps, atol=1e-6)


@every_loss
def test_a_stored_half_teacher_meets_a_float32_student(name: str) -> None:
    data = make(3, 8, seed=2)
    teacher = data.teacher.half()
    loss = call(name, data.student.float(), teacher, data.target)
    torch.testing.assert_close(loss, call(name, data.student.float(), teacher.float(), data.target))
    assert call(name, data.student, teacher, data.target).dtype == torch.float64


@every_loss
def test_autocast_changes_nothing(name: str) -> None:
    data = make(4, 9, seed=5)
    student = data.student.float().requires_grad_()
    plain = call(name, student, data.teacher.float(), data.target)
    with torch.autocast("cpu", torch.bfloat16):
        cast = call(name, student, data.teacher.float(), data.target)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0, atol=0)
    torch.testing.assert_close(gradient_of(cast, student), gradient_of(plain, student), rtol=0, atol=0)


@every_loss
def test_the_teacher_gets_no_gradient(name: str) -> None:
    data = make(4, 9, seed=6)
    student, teacher = data.student.requires_grad_(), data.teacher.requires_grad_()
    call(name, student, teacher, data.target).backward()
    assert teacher.grad is None
    assert student.grad is not None


@every_loss_but("ctkd")
def test_without_a_gradient_only_the_value(name: str) -> None:
    data = make(4, 9, seed=7)
    student = data.student.clone().requires_grad_()
    with torch.inference_mode():
        inferred = call(name, student, data.teacher, data.target)
    with torch.no_grad():
        silent = call(name, student, data.teacher, data.target)
    frozen = call(name, data.student, data.teacher, data.target)
    assert not silent.requires_grad
    assert not frozen.requires_grad
    with_gradient, _ = value_and_gradient(name, data)
    torch.testing.assert_close([inferred.clone(), silent, frozen], [with_gradient] * 3)


@every_loss
def test_inputs_are_left_alone(name: str) -> None:
    data = make(4, 9, seed=8)
    before = copy.deepcopy(data)
    value_and_gradient(name, data)
    torch.testing.assert_close([data.student, data.teacher], [before.student, before.teacher], rtol=0, atol=0)


@every_loss
def test_strided_and_expanded_inputs(name: str) -> None:
    data = make(4, 9, seed=9)
    wide = Logits(data.student.t().contiguous().t(), data.teacher[:1].expand(4, -1), data.target)
    tight = Logits(data.student, data.teacher[:1].repeat(4, 1), data.target)
    torch.testing.assert_close(value_and_gradient(name, wide), value_and_gradient(name, tight))


@every_loss_but("dist", "mlkd", "luminet", "gkl")
def test_one_sample_and_the_mean_over_samples(name: str) -> None:
    data = make(5, 9, seed=10)
    alone = [call(name, data.student[i : i + 1], data.teacher[i : i + 1], data.target[i : i + 1]) for i in range(5)]
    torch.testing.assert_close(
        call(name, data.student, data.teacher, data.target), torch.stack(alone).mean(), rtol=1e-12, atol=0
    )


@pytest.mark.usefixtures("unseen_values")
@every_loss
def test_a_nan_is_not_hidden(name: str) -> None:
    data = make(3, 9, seed=11)
    for broken in (data.student, data.teacher):
        spoilt = broken.clone()
        spoilt[1, 4] = torch.nan
        pair = (spoilt, data.teacher) if broken is data.student else (data.student, spoilt)
        assert call(name, *pair, data.target).isnan()


@every_loss
def test_compiled_equals_eager(name: str) -> None:
    data = make(4, 9, seed=12)
    target = data.target
    module = MODULES[name](9)
    extra = (target,) if "target" in needs_of(module) else ()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    student = data.student.requires_grad_()
    loss = compiled(student, data.teacher, *extra)
    (gradient,) = torch.autograd.grad(3 * loss, student)  # a compiled graph may be used once
    torch.testing.assert_close((loss.detach(), gradient / 3), value_and_gradient(name, data), rtol=1e-10, atol=1e-12)


@every_loss
def test_modules_copy_pickle_and_carry_no_state(name: str) -> None:
    module = MODULES[name](9)
    data = make(4, 9, seed=13)
    extra = (data.target,) if "target" in needs_of(module) else ()
    expected = module(data.student, data.teacher, *extra)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module)
        torch.testing.assert_close(twin(data.student, data.teacher, *extra), expected, rtol=0, atol=0)
    assert not module.state_dict() or name in ("ctkd", "gkl", "wkd_l")  # a learned temperature, two tables of classes


@every_loss_but("lskd", "mlkd", "crld")
def test_repr_shows_every_parameter(name: str) -> None:
    module = MODULES[name](9)
    for parameter in settings_of(type(module)):
        assert f"{parameter}=" in repr(module)


@every_loss
@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        (torch.zeros(0, 5), torch.zeros(0, 5), "student_logits has batch size 0"),
        (torch.zeros(3, 1), torch.zeros(3, 1), r"student_logits has 1 class"),
        (torch.zeros(3, 5), torch.zeros(3, 6), r"teacher_logits has shape \(3, 6\) .* \(3, 5\)"),
        (torch.zeros(3, 5), torch.zeros(2, 5), r"teacher_logits has shape \(2, 5\) .* \(3, 5\)"),
        (torch.zeros(3, 5, 1), torch.zeros(3, 5, 1), r"student_logits has shape \(3, 5, 1\)"),
        (torch.zeros(5), torch.zeros(5), r"student_logits has shape \(5,\)"),
        (torch.zeros(3, 5).long(), torch.zeros(3, 5), "student_logits has dtype torch.int64"),
        (torch.zeros(3, 5), torch.zeros(3, 5).bool(), "teacher_logits has dtype torch.bool"),
        (torch.zeros(3, 5), torch.zeros(3, 5, device="meta"), "teacher_logits is on meta"),
    ],
)
def test_refused_logits(name: str, student: Tensor, teacher: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(name, student, teacher, torch.zeros(3).long())


WITH_TEMPERATURE = (
    losses.KD, losses.DKD, losses.LDRLD, losses.NKD, losses.DIST, losses.WSLD, losses.RLD, losses.CRLD, losses.LumiNet,
    losses.BiLD, losses.PLD, losses.ABKD, losses.GKL, losses.WKDL,
)  # fmt: skip


@pytest.mark.parametrize("module", WITH_TEMPERATURE)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_refused_temperatures(module: type[nn.Module], temperature: float) -> None:
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        module(temperature=temperature)


CLASSES = [value for name in losses.__all__ if inspect.isclass(value := getattr(losses, name))]


@pytest.mark.parametrize("module", CLASSES)
def test_every_class_describes_its_own_parameters(module: type[nn.Module]) -> None:
    described = (inspect.getdoc(module) or "").split("\n\nArgs:\n")[-1].split("\n\n")[0]
    for parameter in settings_of(module):
        assert f"    {parameter}: " in described, f"{module.__name__} does not say what {parameter} is"
