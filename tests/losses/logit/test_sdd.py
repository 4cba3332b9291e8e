"""SDD against the public code's numbers, against its definition, and around every loss that has rows."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from stillroom.losses import DIST, DKD, KD, LDRLD, NKD, WKDL, Standardized, dkd, kd
from stillroom.losses.logit.dkd import dkd_terms
from stillroom.losses.logit.sdd import SDD, region_logits, sdd
from tests.golden import Golden, arrays, cases
from tests.losses.draw import QUICK, gradient_of
from tests.references.kd import kd as kd_reference
from tests.references.sdd import region_logits as region_reference
from tests.references.sdd import sdd as reference

INNER = {
    "kd": lambda: KD(temperature=2.0),
    "dkd": lambda: DKD(beta=2.0),
    "nkd": NKD,
    "ldrld": lambda: LDRLD(depth=3),
    "standardized kd": lambda: Standardized(KD(temperature=2.0)),
    "standardized dkd": lambda: Standardized(DKD(temperature=2.0)),
}
every_inner_loss = pytest.mark.parametrize("name", INNER)


def regions(case: Golden) -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher and labels of a case."""
    return case.tensor("patch_student").requires_grad_(), case.tensor("patch_teacher"), case.tensor("target")


def networks(seed: int = 0, side: int = 8) -> dict[str, object]:
    """What SDD's forward takes: maps of different widths and sizes, heads for 6 classes, and labels."""
    generator = torch.Generator().manual_seed(seed)
    heads = nn.Linear(3, 6).double(), nn.Linear(5, 6).double()
    for head in heads:
        for parameter in head.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return {
        "student_final_map": torch.randn(4, 3, side, side, generator=generator, dtype=torch.float64),
        "teacher_final_map": torch.randn(4, 5, 4, 7, generator=generator, dtype=torch.float64),
        "student_head": heads[0],
        "teacher_head": heads[1],
        "target": torch.randint(6, (4,), generator=generator),
    }


@pytest.mark.parametrize("case", cases("sdd_kd"), ids=lambda case: case.name)
def test_golden_kd(case: Golden) -> None:
    student, teacher, target = regions(case)

    def rows(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        return kd(one, other, temperature=case.hyper["T"], reduction="none")

    loss = sdd(student, teacher, target, rows)
    case.check("total", loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", cases("sdd_dkd"), ids=lambda case: case.name)
def test_golden_dkd(case: Golden) -> None:
    student, teacher, target = regions(case)
    hyper = {"alpha": case.hyper["alpha"], "beta": case.hyper["beta"], "temperature": case.hyper["T"]}
    inner = {
        "tckd": lambda *args: dkd_terms(*args, temperature=case.hyper["T"], reduction="none").target,
        "nckd": lambda *args: dkd_terms(*args, temperature=case.hyper["T"], reduction="none").non_target,
        "total": lambda *args: dkd(*args, **hyper, reduction="none"),
    }
    for name, rows in inner.items():
        loss = sdd(student, teacher, target, rows)
        case.check(name, loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", cases("sdd_nkd"), ids=lambda case: case.name)
def test_golden_nkd_with_the_target_left_in(case: Golden) -> None:
    # The public copy's mask removes no class; ours does, so only the machinery around it can be compared.
    student, teacher, target = regions(case)
    temperature, gamma = case.hyper["temp"], case.hyper["gamma"]

    def rows(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        label = labels.unsqueeze(1)
        own = -(other.softmax(1) * one.log_softmax(1)).gather(1, label).squeeze(1)
        every = -((other / temperature).softmax(1) * (one / temperature).log_softmax(1)).sum(1)
        return own + gamma * temperature**2 * every

    loss = sdd(student, teacher, target, rows)
    case.check("total", loss, gradient_of(loss, student))
    ours = sdd(student, teacher, target, NKD(gamma=gamma, temperature=temperature).rows)
    assert abs(ours - loss) > 0.1


@pytest.mark.parametrize(("key", "grids"), [("M1_2", (1, 2)), ("M1_2_4", (1, 2, 4))])
def test_golden_region_order(key: str, grids: tuple[int, ...]) -> None:
    stored = {name: torch.from_numpy(array).double() for name, array in arrays("sdd_spp").items()}
    ours = region_logits(stored["feature"], stored["fc_weight"], stored["fc_bias"], grids)
    torch.testing.assert_close(ours, stored[f"patch_logits_{key}"], rtol=1e-9, atol=1e-11)


@QUICK
@given(
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    grids=st.sampled_from([(1,), (1, 2), (1, 2, 4), (1, 3), (1, 2, 3)]),
    with_bias=st.booleans(),
    seed=st.integers(0, 999),
)
def test_region_logits_reference(sides: tuple[int, int], grids: tuple[int, ...], with_bias: bool, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    final_map = torch.randn(2, 3, *sides, generator=generator, dtype=torch.float64).requires_grad_()
    weight = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    bias = torch.randn(4, generator=generator, dtype=torch.float64) if with_bias else None
    ours = region_logits(final_map, weight, bias, grids)
    theirs = region_reference(final_map, weight, bias, grids)
    assert ours.shape == (2, 4, sum(grid**2 for grid in grids))
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    pull = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    for leaf in (final_map, weight):
        gradients = [gradient_of((pull * logits).sum(), leaf) for logits in (ours, theirs)]
        torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@QUICK
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 5), st.sampled_from([1, 5, 21])),
    weight=st.floats(-1, 4),
    seed=st.integers(0, 999),
)
def test_reference(shape: tuple[int, int, int], weight: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    target = torch.randint(shape[1], shape[:1], generator=generator)
    student.requires_grad_()
    loss = sdd(student, teacher, target, lambda s, t, _: kd(s, t, reduction="none"), weight=weight)
    expected = reference(student, teacher, target, lambda s, t, _: kd_reference(s, t, 4.0), weight)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@every_inner_loss
def test_it_wraps_every_loss_with_rows(name: str) -> None:
    inner, given_ = INNER[name](), networks()
    module = SDD(inner, grids=(1, 2), weight=3.0)
    student, teacher = (
        region_reference(given_[f"{who}_final_map"], given_[f"{who}_head"].weight, given_[f"{who}_head"].bias, (1, 2))
        for who in ("student", "teacher")
    )

    def one(s: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return inner(s, t, y) if "dkd" in name or name == "nkd" else inner(s, t)

    expected = reference(student, teacher, given_["target"], one, 3.0)
    torch.testing.assert_close(module(**given_), expected, rtol=1e-9, atol=1e-10)


@every_inner_loss
def test_rows_are_the_samples_losses(name: str) -> None:
    module, given_ = SDD(INNER[name](), grids=(1, 2), weight=3.0), networks()
    own = ("student_final_map", "teacher_final_map", "target")
    alone = [module(**given_ | {key: given_[key][i : i + 1] for key in own}) for i in range(4)]
    torch.testing.assert_close(module.rows(**given_), torch.stack(alone), rtol=1e-10, atol=1e-12)


def test_it_connects_the_inner_loss() -> None:
    module, given_ = SDD(WKDL().double()), networks()
    module.connect(teacher_head=given_["teacher_head"])
    assert module(**given_).isfinite()
    assert SDD(KD()).connect is None


@every_inner_loss
def test_weight_one_and_one_grid_is_the_inner_loss(name: str) -> None:
    inner, given_ = INNER[name](), networks()
    logits = (given_[f"{who}_head"](given_[f"{who}_final_map"].mean((2, 3))) for who in ("student", "teacher"))
    plain = inner(*logits, given_["target"]) if "dkd" in name or name == "nkd" else inner(*logits)
    torch.testing.assert_close(SDD(inner, grids=(1,))(**given_), plain, rtol=1e-10, atol=1e-12)


def test_gradients_reach_the_student_and_nothing_of_the_teacher() -> None:
    given_ = networks()
    for who in ("student", "teacher"):
        given_[f"{who}_final_map"].requires_grad_()
    SDD(KD())(**given_).backward()
    assert given_["student_final_map"].grad.abs().sum() > 0
    assert given_["student_head"].weight.grad.abs().sum() > 0
    assert given_["student_head"].bias.grad is not None
    assert given_["teacher_final_map"].grad is None
    assert all(parameter.grad is None for parameter in given_["teacher_head"].parameters())


def test_hooks_on_the_heads_stay_silent() -> None:
    given_, calls = networks(), []
    for who in ("student_head", "teacher_head"):
        given_[who].register_forward_hook(lambda *call: calls.append(call))
    SDD(KD())(**given_)
    assert not calls


def test_a_head_without_bias() -> None:
    given_ = networks()
    with_zeros = SDD(KD())(**{**given_, "student_head": _without_bias(given_["student_head"], keep=True)})
    without = SDD(KD())(**{**given_, "student_head": _without_bias(given_["student_head"], keep=False)})
    torch.testing.assert_close(without, with_zeros)


def _without_bias(head: nn.Linear, *, keep: bool) -> nn.Linear:
    twin = nn.Linear(head.in_features, head.out_features, bias=keep).double()
    twin.weight.data = head.weight.data
    if keep:
        twin.bias.data.zero_()
    return twin


def test_equal_networks_cost_nothing() -> None:
    given_ = networks()
    given_["teacher_final_map"], given_["teacher_head"] = given_["student_final_map"].clone(), given_["student_head"]
    given_["student_final_map"].requires_grad_()
    loss = SDD(DKD())(**given_)
    assert loss.item() == pytest.approx(0.0, abs=1e-12)
    assert gradient_of(loss, given_["student_final_map"]).abs().max() < 1e-12


def test_complementary_regions_count_by_the_weight() -> None:
    # Region 1 contradicts the whole, region 2 agrees with it; then the whole is wrong and region 1 right.
    teacher = torch.tensor([[[5.0, 0.0, 5.0], [0.0, 5.0, 0.0]]]).double()
    student = torch.zeros(1, 2, 3, dtype=torch.float64)

    def rows(one: Tensor, other: Tensor, labels: Tensor) -> Tensor:
        assert labels.shape == (3,)
        return torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)

    for label in (0, 1):
        assert sdd(student, teacher, torch.tensor([label]), rows, weight=2.0) == (1 + 20 + 100) / 3


@pytest.mark.usefixtures("unseen_values")
@every_inner_loss
def test_a_nan_is_not_replaced(name: str) -> None:
    for broken in ("student_final_map", "teacher_final_map"):
        given_ = networks()
        given_[broken][1, 0, 0, 0] = torch.nan
        assert SDD(INNER[name]())(**given_).isnan()


@every_inner_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    given_ = networks()
    low = {key: value.to(dtype) if isinstance(value, Tensor) and key != "target" else value
           for key, value in given_.items()}  # fmt: skip
    for who in ("student_head", "teacher_head"):
        low[who] = copy.deepcopy(given_[who]).to(dtype)
    exact = {key: value.double() if isinstance(value, Tensor) and key != "target" else value
             for key, value in low.items()}  # fmt: skip
    for who in ("student_head", "teacher_head"):
        exact[who] = copy.deepcopy(low[who]).double()
    low["student_final_map"].requires_grad_()
    loss, module = SDD(INNER[name]())(**low), SDD(INNER[name]())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), module(**exact), rtol=1e-5, atol=0)
    assert gradient_of(loss, low["student_final_map"]).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_and_zero_maps_stay_finite(dtype: torch.dtype) -> None:
    for scale in (0.0, 1e4):
        given_ = networks()
        for who in ("student", "teacher"):
            given_[f"{who}_final_map"] = (scale * given_[f"{who}_final_map"]).to(dtype).requires_grad_()
            given_[f"{who}_head"] = given_[f"{who}_head"].float()
        for inner in INNER.values():
            loss = SDD(inner())(**given_)
            assert loss.isfinite()
            assert gradient_of(loss, given_["student_head"].weight).isfinite().all()


def test_autocast_changes_nothing() -> None:
    given_ = networks()
    for key, value in given_.items():
        given_[key] = value.float() if key != "target" else value
    plain = SDD(DKD())(**given_)
    with torch.autocast("cpu", torch.bfloat16):
        cast = SDD(DKD())(**given_)
    assert torch.equal(cast, plain)


@every_inner_loss
def test_compiled_equals_eager(name: str) -> None:
    given_ = networks()
    given_["student_final_map"].requires_grad_()
    module = SDD(INNER[name]())
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    # Not gradient_of: compiled code may give its buffers away, so its graph cannot be kept.
    results = [
        (loss.detach(), torch.autograd.grad(3 * loss, given_["student_final_map"])[0])
        for loss in (compiled(**given_), module(**given_))
    ]
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-12)


def test_copies_and_pickles() -> None:
    module, given_ = SDD(DKD(), grids=(1, 2), weight=1.5), networks()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module)
        assert torch.equal(twin(**given_), module(**given_))
    assert "grids=(1, 2), weight=1.5" in repr(module)
    assert SDD(KD(), grids=[1, 2]).grids == (1, 2)


@pytest.mark.parametrize("loss", [DIST(), Standardized(DIST()), nn.MSELoss()])
def test_losses_without_rows_are_refused(loss: nn.Module) -> None:
    inner = loss.loss if isinstance(loss, Standardized) else loss
    with pytest.raises(ValueError, match=rf"loss is {type(inner).__name__}, which has no rows\(\)"):
        SDD(loss)


def test_losses_that_need_more_are_refused() -> None:
    class Greedy(nn.Module):
        def forward(self, student_logits: Tensor, teacher_logits: Tensor, epoch: int = 1) -> Tensor: ...

        def rows(self, student_logits: Tensor, teacher_logits: Tensor) -> Tensor: ...

    with pytest.raises(ValueError, match=r"loss is Greedy with forward\(student_logits, teacher_logits, epoch\)"):
        SDD(Greedy())


@pytest.mark.parametrize("grids", [(), (2, 4), (1, 4, 2), (1, 1), (0, 1), (1, 2.5)])
def test_refused_grids(grids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="grids is"):
        SDD(KD(), grids=grids)
    with pytest.raises(ValueError, match="grids is"):
        region_logits(torch.zeros(1, 2, 4, 4), torch.zeros(3, 2), grids=grids)


def test_refused_weight() -> None:
    with pytest.raises(ValueError, match="weight is inf"):
        SDD(KD(), weight=float("inf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_final_map": torch.zeros(4, 3)}, r"final_map has shape \(4, 3\)"),
        ({"student_final_map": torch.zeros(4, 7, 2, 2)}, r"weight has shape \(6, 3\) but final_map has 7 channels"),
        ({"student_final_map": torch.zeros(4, 3, 2, 2, device="meta")}, "weight is on cpu but final_map is on meta"),
        ({"student_final_map": torch.zeros(3, 3, 2, 2)}, "teacher_regions has batch size 4 but student_regions has 3"),
        ({"student_head": nn.Linear(3, 5)}, r"student_regions has shape \(4, 5, 21\) but teacher_regions"),
        ({"target": torch.zeros(5).long()}, r"target has shape \(5,\)"),
        ({"target": torch.zeros(4)}, "target has dtype torch.float32"),
    ],
)
def test_refused_inputs(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SDD(KD())(**{**networks(), **change})


def test_rows_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rows returned shape \(\): it must be \(10,\)"):
        sdd(torch.zeros(2, 3, 5), torch.zeros(2, 3, 5), torch.zeros(2).long(), lambda s, t, _: kd(s, t))
