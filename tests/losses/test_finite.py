"""NaN and infinity at the door of every loss: a clear error on the CPU, passed on where looking would cost."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stillroom import losses
from stillroom.losses.finite import NotFinite, check_result, check_values
from stillroom.losses.protocol import needs_of
from tests.losses.draw import make
from tests.losses.feature import test_contract as feature_contract
from tests.losses.test_contract import MODULES, call

not_finite = pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
a_side = pytest.mark.parametrize("side", ["student", "teacher"])


def test_the_message_counts_and_says_what_to_do() -> None:
    data = make(3, 9, seed=0)
    data.student[0, 1] = data.student[2, 8] = math.nan
    data.student[1, 0] = -math.inf
    message = r"student_logits holds 2 NaN and 1 infinite values of 27: .*lower the learning rate"
    with pytest.raises(NotFinite, match=message):
        losses.kd(data.student, data.teacher)
    with pytest.raises(ValueError, match=r"teacher_logits holds 2 NaN .*teacher's weights"):
        losses.kd(data.teacher, data.student)


@not_finite
@a_side
@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_logit_loss_refuses(name: str, dtype: torch.dtype, side: str, value: float) -> None:
    data = make(3, 9, seed=1)
    pair = {"student": data.student.to(dtype), "teacher": data.teacher.to(dtype)}
    pair[side][1, 4] = value
    with pytest.raises(NotFinite, match=f"{side}_logits holds [01] NaN and [01] infinite values of 27"):
        call(name, pair["student"], pair["teacher"], data.target)


@not_finite
@a_side
@pytest.mark.parametrize("name", feature_contract.MODULES)
def test_a_feature_loss_refuses(name: str, side: str, value: float) -> None:
    if (name, side) == ("uskd", "teacher"):
        pytest.skip("has no teacher")
    module, given = feature_contract.connected(name), feature_contract.inputs(name)
    for need in needs_of(module):
        if need.startswith(side) and not need.endswith("head"):
            for tensor in given[need] if isinstance(given[need], tuple) else (given[need],):
                tensor.view(-1)[5] = value
    with pytest.raises(NotFinite, match=rf"{side}_\w+(\[-?\d\])? holds [01] NaN and [01] infinite"):
        feature_contract.call(name, module, given)


def test_a_learned_temperature_is_looked_at() -> None:
    data = make(3, 9, seed=2)
    with pytest.raises(NotFinite, match="temperature holds 1 NaN"):
        losses.ctkd(data.student, data.teacher, torch.tensor(math.nan))


def test_finite_values_whose_sum_overflows_are_accepted() -> None:
    check_values("student_logits", torch.full((3, 4), 3e38))
    check_values("student_logits", torch.full((3, 4), 65504.0).half())


@pytest.mark.parametrize("run", [losses.fitnet, losses.simkd, lambda s, t: losses.reviewkd([s], [t])])
def test_squares_beyond_float32_name_the_larger_input(run: Any) -> None:
    one, huge = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2e25)
    with pytest.raises(NotFinite, match=r"student_maps? has values up to 2e\+25: too large for this loss in float32"):
        run(huge, one)
    with pytest.raises(NotFinite, match=r"teacher_maps? has values up to 2e\+25"):
        run(one, huge)
    assert run(huge.double(), one).item() == pytest.approx(4e50)


def test_a_flow_whose_gradient_alone_overflows_is_refused() -> None:
    # Flows around 1e10, squares around 1e20, but the gradient is a flow times 1e30.
    maps = [torch.full((1, 1, 2, 2), 1e-20), torch.full((1, 1, 2, 2), 1e30)]
    with pytest.raises(NotFinite, match=r"student_maps has values up to 1e\+30"):
        losses.fsp(maps, [torch.zeros(1, 1, 2, 2)] * 2)


def test_a_connector_refuses_what_its_batch_normalisation_would_turn_into_zeros() -> None:
    module, given = feature_contract.connected("ab"), feature_contract.inputs("ab")
    given["student_preact_maps"] = tuple(1e25 * tensor for tensor in given["student_preact_maps"])
    with pytest.raises(NotFinite, match="student_feature has values up to"):
        feature_contract.call("ab", module, given)


def test_compiled_code_does_not_look() -> None:
    data = make(3, 9, seed=3)
    compiled = torch.compile(losses.kd, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(data.student, data.teacher), losses.kd(data.student, data.teacher))
    data.student[1, 2] = math.nan
    assert compiled(data.student, data.teacher).isnan()


def test_a_transform_does_not_look() -> None:
    pairs = torch.randn(2, 5, 3, 9, generator=torch.Generator().manual_seed(0))
    each = torch.func.vmap(losses.kd)(*pairs)
    torch.testing.assert_close(each, torch.stack([losses.kd(*pair) for pair in zip(*pairs, strict=True)]))
    together = torch.func.vmap(losses.fitnet)(*pairs[..., None, None])
    assert together.shape == (5,)


def test_the_result_is_passed_through() -> None:
    loss = torch.tensor(2.0, requires_grad=True)
    assert check_result(loss, student_map=torch.ones(1)) is loss


@pytest.mark.usefixtures("unseen_values")
@pytest.mark.parametrize("name", MODULES)
def test_looking_changes_no_number(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(4, 9, seed=4)

    def value_and_gradient() -> tuple[Tensor, Tensor]:
        student = data.student.bfloat16().requires_grad_()
        loss = call(name, student, data.teacher.bfloat16(), data.target)
        loss.backward()
        return loss.detach(), student.grad

    unseen = value_and_gradient()
    monkeypatch.undo()
    torch.testing.assert_close(value_and_gradient(), unseen, rtol=0, atol=0)
