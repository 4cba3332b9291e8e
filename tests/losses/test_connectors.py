"""What every loss with connectors promises, and the pieces that they share."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses.connectors import cast_for, check_whole, conv_bn, match_size, smaller_size
from stillroom.losses.feature.ab import AB
from stillroom.losses.feature.fitnet import FitNet
from stillroom.losses.feature.ft import FT
from stillroom.losses.feature.ofd import OFD
from stillroom.losses.feature.reviewkd import ReviewKD
from stillroom.losses.feature.vid import VID
from tests.losses.draw import QUICK, gradient_of
from tests.references.reviewkd import pool

MODULES: dict[str, Callable[[], nn.Module]] = {
    "fitnet": lambda: FitNet(layer=-1),
    "vid": VID,
    "ft": lambda: FT(initial_epochs=0),
    "ft_initial": lambda: FT(initial_epochs=1),
    "ab": AB,
    "ofd": OFD,
    "reviewkd": lambda: ReviewKD(mid_channels=8),
}
every_loss = pytest.mark.parametrize("name", MODULES)
trains_the_student = pytest.mark.parametrize("name", [name for name in MODULES if name != "ft_initial"])

Sizes = tuple[tuple[int, int], ...]
PYRAMID: Sizes = ((8, 8), (4, 4))
GRID: Sizes = ((7, 7), (7, 7))  # a vision transformer's
ODD: Sizes = ((6, 9), (5, 2))
Features = dict[str, Any]


def features(student: Sizes = PYRAMID, teacher: Sizes = GRID, dtype: torch.dtype = torch.float32) -> Features:
    """One of everything that these losses ask for."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(4, *shape, generator=generator).to(dtype)

    preact = {
        "student": tuple(draw(5 + level, *size) for level, size in enumerate(student)),
        "teacher": tuple(draw(6 + 2 * level, *size) for level, size in enumerate(teacher)),
    }
    maps = {f"{who}_maps": tuple(feature.relu() for feature in levels) for who, levels in preact.items()}
    return {
        **{f"{who}_preact_maps": levels for who, levels in preact.items()},
        **maps,
        "student_embedding": draw(6),
        "teacher_embedding": draw(8),
    }


def taking(function: Callable[..., Any], given_: Features) -> Features:
    """What of the features a method takes, by its parameters' names."""
    return {name: given_[name] for name in inspect.signature(function).parameters if name in given_}


def connected(name: str, given_: Features, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    module = MODULES[name]()
    assert module.connect(**taking(module.connect, given_)) is module
    return module


def call(module: Callable[..., Tensor], given_: Features) -> Tensor:
    forward = module.forward if isinstance(module, nn.Module) else module
    return module(**taking(forward, given_))


def leaves(given_: Features, who: str) -> list[Tensor]:
    """Make one network's features leaves, in place."""
    result: list[Tensor] = []
    for name in [name for name in given_ if name.startswith(who)]:
        value = given_[name]
        if isinstance(value, tuple):
            given_[name] = tuple(feature.detach().clone().requires_grad_() for feature in value)
            result.extend(given_[name])
        else:
            given_[name] = value.detach().clone().requires_grad_()
            result.append(given_[name])
    return result


@every_loss
def test_forward_before_connect_says_what_to_do(name: str) -> None:
    module = MODULES[name]()
    arguments = ", ".join(inspect.signature(module.connect).parameters)
    with pytest.raises(
        RuntimeError, match=rf"{type(module).__name__} has no connectors yet: call connect\({arguments}\)"
    ):
        call(module, features())


@every_loss
def test_copies_pickles_and_checkpoints(name: str) -> None:
    given_ = features()
    empty = MODULES[name]()
    for twin in (copy.deepcopy(empty), pickle.loads(pickle.dumps(empty))):
        assert repr(twin) == repr(empty)
    module = connected(name, given_)
    expected = call(module, given_)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(call(twin, given_), expected)
    other = connected(name, given_, seed=1)
    assert not torch.equal(call(other, given_), expected)
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(call(other, given_), expected)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_connectors_are_float32_and_take_any_dtype(name: str, dtype: torch.dtype) -> None:
    given_ = features(dtype=dtype)
    module = connected(name, given_)
    assert {p.dtype for p in module.parameters()} == {torch.float32}
    assert {b.dtype for b in module.buffers() if b.is_floating_point()} <= {torch.float32}
    student = leaves(given_, "student")
    loss = call(module, given_)
    exact = call(module, {key: _as(value, torch.float32) for key, value in given_.items()})
    torch.testing.assert_close(loss.float(), exact.float(), rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(loss, [*student, *module.parameters()], allow_unused=True)
    for leaf, gradient in zip([*student, *module.parameters()], gradients, strict=True):
        assert gradient is None or (gradient.dtype == leaf.dtype and gradient.isfinite().all())


def _as(value: Tensor | tuple[Tensor, ...], dtype: torch.dtype) -> Tensor | tuple[Tensor, ...]:
    return tuple(feature.to(dtype) for feature in value) if isinstance(value, tuple) else value.to(dtype)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_autocast(name: str, dtype: torch.dtype) -> None:
    given_ = features(dtype=dtype)
    module = connected(name, given_)
    with torch.autocast("cpu", torch.bfloat16):
        loss = call(module, given_)
    assert loss.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(loss.float(), call(module, given_).float(), rtol=0.05, atol=0.01)
    loss.backward()


@every_loss
@pytest.mark.parametrize("student", [PYRAMID, GRID, ODD])
@pytest.mark.parametrize("teacher", [PYRAMID, GRID, ODD])
def test_any_two_networks_fit(name: str, student: Sizes, teacher: Sizes) -> None:
    given_ = features(student, teacher)
    loss = call(connected(name, given_), given_)
    assert loss.shape == ()
    assert loss.isfinite()


@every_loss
def test_another_resolution_than_the_examples(name: str) -> None:
    module = connected(name, features(PYRAMID, PYRAMID))
    twice = tuple((2 * height, 2 * width) for height, width in PYRAMID)
    assert call(module, features(twice, twice)).isfinite()


@pytest.mark.parametrize("name", ["vid", "ab", "ofd", "reviewkd"])
def test_another_number_of_levels_is_refused(name: str) -> None:
    module = connected(name, features())
    with pytest.raises(ValueError, match=r"was connected with \d: call connect"):
        call(module, features(PYRAMID[:1], GRID[:1]))


@every_loss
def test_connecting_again_replaces(name: str) -> None:
    module = connected(name, features())
    count = len(list(module.parameters()))
    wide = features()
    wide = {key: _wider(value) if key.startswith("teacher") else value for key, value in wide.items()}
    module.connect(**taking(module.connect, wide))
    assert len(list(module.parameters())) == count
    assert call(module, wide).isfinite()


def _wider(value: Tensor | tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
    return tuple(feature.repeat(1, 2, 1, 1) for feature in value) if isinstance(value, tuple) else value.repeat(1, 2)


@trains_the_student
def test_no_gradient_reaches_the_teacher(name: str) -> None:
    given_ = features()
    module = connected(name, given_)
    student, teacher = leaves(given_, "student"), leaves(given_, "teacher")
    call(module, given_).backward()
    assert any(leaf.grad is not None for leaf in student)
    assert all(leaf.grad is None for leaf in teacher)


@every_loss
def test_training_lowers_the_loss(name: str) -> None:
    given_ = features()
    module = connected(name, given_)
    student = leaves(given_, "student")
    parameters = [*student, *module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = call(module, given_)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@every_loss
def test_compiled_equals_eager(name: str) -> None:
    torch._dynamo.reset()
    given_ = features()
    module = connected(name, given_)
    student = leaves(given_, "student")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    parameters = [*student, *module.parameters()]
    results = []
    for run in (module, compiled):
        loss = run(**taking(module.forward, given_))
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        results.append((loss.detach(), gradients))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    assert any(gradient.any() for gradient in results[0][1])


@pytest.mark.usefixtures("unseen_values")
@trains_the_student
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_nan_is_not_hidden(name: str, who: str) -> None:
    given_ = features(PYRAMID, PYRAMID)
    module = connected(name, given_)
    for key in (f"{who}_maps", f"{who}_preact_maps"):
        spoilt = given_[key][-1].clone()
        spoilt[0, 0, 0, 0] = float("nan")
        given_[key] = (*given_[key][:-1], spoilt)
    assert call(module, given_).isnan()


@QUICK
@given(size=st.tuples(*[st.integers(1, 7)] * 2), wanted=st.tuples(*[st.integers(1, 7)] * 2), seed=st.integers(0, 999))
def test_match_size(size: tuple[int, int], wanted: tuple[int, int], seed: int) -> None:
    feature = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(seed)).double().requires_grad_()
    ours, expected = match_size(feature, wanted), pool(feature, *wanted)
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-14)
    pulls = [gradient_of(result.square().sum(), feature) for result in (ours, expected)]
    torch.testing.assert_close(*pulls, rtol=1e-12, atol=1e-13)


def test_match_size_repeats_at_whole_factors_and_leaves_equal_sizes_alone() -> None:
    feature = torch.randn(1, 2, 2, 3)
    assert match_size(feature, (2, 3)) is feature
    repeated = feature.repeat_interleave(2, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(match_size(feature, (4, 9)), repeated)
    assert match_size(feature.half(), (1, 1)).dtype == torch.float32
    assert smaller_size(feature, torch.zeros(1, 1, 5, 1)) == (2, 1)


def test_conv_bn_keeps_the_size_and_can_be_filled() -> None:
    for kernel_size in (1, 3, 5):
        assert conv_bn(2, 4, kernel_size)(torch.zeros(2, 2, 5, 6)).shape == (2, 4, 5, 6)
    (filled, _) = conv_bn(2, 4, init=nn.init.ones_)
    assert (filled.weight == 1).all()


def test_cast_for_leaves_autocasts_work_to_autocast() -> None:
    layer, half = nn.Linear(2, 2), torch.zeros(1, 2).bfloat16()
    assert cast_for(layer, half).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        assert cast_for(layer, half).dtype == torch.bfloat16
        assert cast_for(layer, half.double()).dtype == torch.float32


@pytest.mark.parametrize("number", [0, 1.0, True, float("nan")])
def test_refused_numbers(number: float) -> None:
    with pytest.raises(ValueError, match=f"count is {number}: it must be a whole number, at least 1"):
        check_whole(1, count=number)
