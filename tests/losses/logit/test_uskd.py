"""USKD against the public code's numbers and against its definition."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from stillroom.losses.logit.uskd import USKD, uskd, uskd_terms
from stillroom.losses.protocol import connect_needs_of, needs_of
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.uskd import uskd_terms as reference


@pytest.mark.parametrize("case", cases("uskd"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, middle = (case.tensor(name).requires_grad_() for name in ("student_logits", "fea_mid"))
    target, hyper = case.tensor("target"), case.hyper
    weak = nn.functional.linear(middle, case.tensor("fc_weight"), case.tensor("fc_bias"))
    terms = uskd_terms(student, weak, target)
    total = uskd(student, weak, target, alpha=hyper["alpha"], beta=hyper["beta"], mu=hyper["mu"])
    named = (("target_term", terms.target), ("nontarget_term", terms.non_target), ("weak_term_mu1", terms.weak))
    for name, loss in (*named, ("total", total)):
        for leaf, wrt in ((student, ""), (middle, "fea_mid")):
            gradient = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)[0]
            gradient = torch.zeros_like(leaf) if gradient is None else gradient
            # The public code's 1 / rank is float32.
            tolerance = {} if name in ("target_term", "weak_term_mu1") else {"rtol": 1e-6, "atol": 1e-7}
            case.check(name, loss, gradient, wrt=wrt, **tolerance)


@QUICK
@given(data=logits(max_classes=6))
def test_reference(data: Logits) -> None:
    student, weak = data.student.requires_grad_(), data.teacher.requires_grad_()
    for loss, expected in zip(
        uskd_terms(student, weak, data.target), reference(student, weak, data.target), strict=True
    ):
        torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
        for leaf in (student, weak):
            ours = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)[0]
            theirs = gradient_of(expected, leaf)
            torch.testing.assert_close(torch.zeros_like(leaf) if ours is None else ours, theirs, rtol=1e-9, atol=1e-10)


def test_the_sum_is_weighted() -> None:
    data = make(4, 9, seed=0)
    terms = uskd_terms(data.student, data.teacher, data.target)
    whole = uskd(data.student, data.teacher, data.target, alpha=2.0, beta=3.0, mu=5.0)
    torch.testing.assert_close(whole, 2 * terms.target + 3 * terms.non_target + 5 * terms.weak)


def test_soft_labels_follow_zipf_and_leave_out_the_label() -> None:
    # Flat weak logits: the student's own order ranks. The label is second, so the others have ranks 1, 3 and 4.
    student = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).double().requires_grad_()
    weak = torch.zeros(1, 4, dtype=torch.float64)
    gradient = gradient_of(uskd_terms(student, weak, torch.tensor([1])).non_target, student)
    shares = torch.tensor([1.0, 1 / 3, 1 / 4]).double()
    kept = student.detach()[0, [0, 2, 3]].softmax(0)
    torch.testing.assert_close(gradient[0, [0, 2, 3]], kept - shares / shares.sum())
    assert gradient[0, 1] == 0


def test_a_large_label_logit_does_not_leak_to_the_others() -> None:
    data = make(3, 6, seed=1)
    raised = data.student.scatter(1, data.target[:, None], 1e6)
    student = raised.requires_grad_()
    assert gradient_of(uskd_terms(student, data.teacher, data.target).non_target, student).abs().max() < 1


def test_two_classes_leave_nothing_to_the_others() -> None:
    data = make(5, 2, seed=0)
    assert uskd_terms(data.student, data.teacher, data.target).non_target == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_and_equal_logits_stay_finite(dtype: torch.dtype) -> None:
    saturated = torch.tensor([[200.0, 0, 0, 0], [0, 200, 0, 0]])
    for student in (saturated, torch.zeros(2, 4)):
        for weak in (saturated, -saturated, torch.zeros(2, 4)):
            leaf, other = student.to(dtype).requires_grad_(), weak.to(dtype).requires_grad_()
            loss = uskd(leaf, other, torch.tensor([0, 0]))
            exact = uskd(leaf.detach().double(), other.detach().double(), torch.tensor([0, 0]))
            assert loss.dtype == torch.float32
            torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=1e-6)
            for each in (leaf, other):
                assert gradient_of(loss, each).isfinite().all()
                assert gradient_of(loss, each).dtype == dtype


@pytest.mark.usefixtures("unseen_values")
def test_a_nan_is_not_hidden() -> None:
    data = make(3, 9, seed=1)
    for broken in (data.student, data.teacher):
        kept = broken[1, 4].item()
        broken[1, 4] = torch.nan
        assert uskd(data.student, data.teacher, data.target).isnan()
        broken[1, 4] = kept


def examples(levels: int = 3, classes: int = 6, seed: int = 0) -> tuple[Tensor, list[Tensor], Tensor]:
    """Logits, maps from shallow to deep, labels."""
    generator = torch.Generator().manual_seed(seed)
    maps = [torch.randn(8, 4 + level, 8 >> level, 8 >> level, generator=generator) for level in range(levels)]
    return torch.randn(8, classes, generator=generator), maps, torch.randint(classes, (8,), generator=generator)


def test_forward_before_connect_says_so() -> None:
    student, maps, target = examples()
    with pytest.raises(RuntimeError, match=r"call connect\(student_maps, student_logits\)"):
        USKD()(student, maps, target)


@pytest.mark.parametrize(("layer", "channels"), [(-2, 5), (1, 4), (-1, 6), (3, 6)])
def test_connect_builds_a_head_of_the_maps_channels(layer: int, channels: int) -> None:
    student, maps, target = examples()
    module = USKD(layer=layer)
    assert module.connect(maps, student) is module
    assert module.weak_head.weight.shape == (6, channels)
    weak = module.weak_head(maps[layer - (layer > 0)].mean((2, 3)))
    torch.testing.assert_close(module(student, maps, target), uskd(student, weak, target))
    module.connect([each.double() for each in maps], student[:, :3])
    assert module.weak_head.weight.shape[0] == 3
    assert module.weak_head.weight.dtype == torch.float32


def test_it_declares_its_needs() -> None:
    assert needs_of(USKD()) == ("student_logits", "student_maps", "target")
    assert connect_needs_of(USKD()) == ("student_maps", "student_logits")


def test_a_few_steps_lower_the_loss() -> None:
    student, maps, target = examples()
    module = USKD(mu=1.0).connect(maps, student)
    maps[1].requires_grad_()
    student.requires_grad_()
    optimizer = torch.optim.SGD([student, maps[1], *module.parameters()], lr=0.5)
    before = (module.weak_head.weight.clone(), maps[1].detach().clone())
    values = []
    for _ in range(20):
        loss = module(student, maps, target)
        values.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert values[-1] < 0.8 * values[0]
    assert not torch.equal(before[0], module.weak_head.weight)
    assert not torch.equal(before[1], maps[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_maps_of_any_precision(dtype: torch.dtype) -> None:
    student, maps, target = examples()
    module = USKD().connect(maps, student)
    maps = [each.to(dtype).requires_grad_() for each in maps]
    loss = module(student.to(dtype), maps, target)
    exact = module(student.to(dtype).float(), [each.detach().float() for each in maps], target)
    torch.testing.assert_close(loss.float(), exact, rtol=1e-5, atol=0)
    assert gradient_of(loss, maps[1]).dtype == dtype


def test_a_large_half_precision_map_does_not_overflow() -> None:
    student, maps, target = examples()
    module = USKD().connect(maps, student)
    maps[1] = torch.full_like(maps[1], 6e4, dtype=torch.float16)
    assert module(student, maps, target).isfinite()


def test_compiled_equals_eager() -> None:
    student, maps, target = examples()
    module = USKD().connect(maps, student)
    student.requires_grad_()
    loss = torch.compile(module, fullgraph=True, backend="aot_eager")(student, maps, target)
    eager = module(student, maps, target)
    torch.testing.assert_close((loss, gradient_of(loss, student)), (eager, gradient_of(eager, student)))


def test_copies_pickles_and_state() -> None:
    student, maps, target = examples()
    for module in (USKD(), USKD(layer=1).connect(maps, student)):
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert repr(twin) == repr(module)
    assert set(module.state_dict()) == {"weak_head.weight", "weak_head.bias"}
    twin = USKD(layer=1).connect(maps, student)
    twin.load_state_dict(module.state_dict())
    assert torch.equal(twin(student, maps, target), module(student, maps, target))
    for name in ("layer", "alpha", "beta", "mu"):
        assert f"{name}=" in repr(module)


@pytest.mark.parametrize("layer", [0, 1.5, True])
def test_refused_layers(layer: float) -> None:
    with pytest.raises(ValueError, match=f"layer is {layer}"):
        USKD(layer=layer)


def test_a_level_that_does_not_exist_is_refused() -> None:
    student, maps, _ = examples()
    with pytest.raises(ValueError, match="layer is -2 but student_maps has 1 levels"):
        USKD().connect(maps[:1], student)
    with pytest.raises(ValueError, match=r"student_maps\[-2\] has shape \(8, 5\)"):
        USKD().connect([maps[0], maps[1][:, :, 0, 0], maps[2]], student)


@pytest.mark.parametrize("name", ["alpha", "beta", "mu"])
def test_refused_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is nan"):
        USKD(**{name: float("nan")})


@pytest.mark.parametrize(
    ("weak", "target", "message"),
    [
        (torch.zeros(3, 4), torch.zeros(3).long(), r"weak_logits has shape \(3, 4\) but student_logits has \(3, 5\)"),
        (torch.zeros(3, 5).long(), torch.zeros(3).long(), "weak_logits has dtype torch.int64"),
        (torch.zeros(3, 5, device="meta"), torch.zeros(3).long(), "weak_logits is on meta"),
        (torch.zeros(3, 5), torch.zeros(3), "target has dtype torch.float32"),
    ],
)
def test_refused_inputs(weak: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        uskd(torch.zeros(3, 5), weak, target)
