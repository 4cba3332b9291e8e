"""LDRLD against the public code's numbers, against its definition, and where we differ on purpose."""

from __future__ import annotations

import inspect
import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses import LDRLD, kd, ldrld
from stillroom.losses.kernels.class_choice import ARGMAX_ROUNDS, CHOOSERS, Chooser, choose_classes
from stillroom.losses.logit.ldrld import ldrld_terms
from stillroom.losses.logit.ldrld_settings import LDRLDSettings, adaptive_decay_weights
from stillroom.losses.numerics import kl_rows
from tests.golden import Golden, cases, read
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make
from tests.references.ldrld import ldrld as reference
from tests.references.ldrld import ldrld_terms as reference_terms

GOLDEN = cases("ldrld")
SWITCHES = ("average", "pairs", "irw", "erd", "llki", "rntk")
on_or_off = st.fixed_dictionaries({name: st.booleans() for name in SWITCHES})


def golden(*, where: str) -> list[Golden]:
    """The cases with depth 2, with depth C, or with any other depth we allow."""

    def kind(case: Golden) -> str:
        depth, classes = case.hyper["k"], case.arrays["student_logits"].shape[1]
        return {2: "two", classes: "all", 1: "refused"}.get(depth, "between")

    return [case for case in GOLDEN if kind(case) == where]


def inputs(case: Golden) -> tuple[Tensor, Tensor, dict[str, float]]:
    """Student, teacher, and the keywords that both ldrld and its terms take."""
    settings = {"depth": case.hyper["k"], "temperature": case.hyper["T"]}
    return case.tensor("student_logits").requires_grad_(), case.tensor("teacher_logits"), settings


@pytest.mark.parametrize("case", golden(where="between"), ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher, settings = inputs(case)
    terms = ldrld_terms(student, teacher, **settings)
    total = ldrld(student, teacher, alpha=case.hyper["alpha"], beta=case.hyper["beta"], **settings)
    for name, loss in (("ldrld", terms.local), ("rntk", terms.rntk), ("total", total)):
        case.check(name, loss, gradient_of(loss, student))


@pytest.mark.parametrize("case", golden(where="all"), ids=lambda case: case.name)
def test_golden_depth_c_leaves_nothing_remaining(case: Golden) -> None:
    # The public code falls back to full KD here; nothing remains, so for us it is 0.
    student, teacher, settings = inputs(case)
    terms = ldrld_terms(student, teacher, **settings)
    case.check("ldrld", terms.local, gradient_of(terms.local, student))
    assert terms.rntk == 0
    assert not gradient_of(terms.rntk, student).any()
    whole = kd(student, teacher, temperature=settings["temperature"])
    case.check("rntk", whole, gradient_of(whole, student))


@pytest.mark.parametrize("case", golden(where="two"), ids=lambda case: case.name)
def test_golden_depth_two_keeps_llki_at_weight_one(case: Golden) -> None:
    # The public code gives the 2-tuple the pair's weight: its local term is (Omega K + Omega K) / 2.
    student, teacher, settings = inputs(case)
    pair = ldrld_terms(student, teacher, llki=False, average=False, **settings).local
    case.check("ldrld", pair, gradient_of(pair, student))
    omega = adaptive_decay_weights(2)[0, 1].item()
    ours = ldrld_terms(student, teacher, **settings)
    torch.testing.assert_close(ours.local, (pair + pair / omega) / 2, rtol=1e-12, atol=0)
    case.check("rntk", ours.rntk, gradient_of(ours.rntk, student))


@pytest.mark.parametrize("case", [case for case in GOLDEN if "combo_weight" in case.arrays], ids=lambda case: case.name)
def test_golden_part_by_part(case: Golden) -> None:
    student, teacher, settings = inputs(case)
    part = case.tensor("combo_weighted_loss")
    whole_tuple = case.tensor("combo_pair_ranks0")[:, 0] < 0
    ours = ldrld_terms(student, teacher, llki=False, average=False, **settings).local
    llki = ldrld_terms(student, teacher, pairs=False, average=False, **settings).local
    if case.hyper["k"] == 2:
        pair_part, tuple_part = part[0], part[1] / case.tensor("combo_weight")[1]
    else:
        pair_part, tuple_part = part[~whole_tuple].sum(), part[whole_tuple].sum()
    torch.testing.assert_close(ours, pair_part, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(llki, tuple_part, rtol=1e-9, atol=1e-11)
    top = student.detach().topk(case.hyper["k"]).indices
    assert torch.equal(top, case.tensor("topk_indices"))


def hard_inputs(name: str) -> tuple[Tensor, Tensor, float]:
    """Rebuild a failure case of the public code from its description."""
    stored = read("ldrld_failures")["baseline_inputs_float32"]
    student, teacher = torch.tensor(stored["student_logits"]), torch.tensor(stored["teacher_logits"])
    rows = torch.arange(4)
    if name.startswith("teacher_masked_class_logit_"):
        _, size, temperature = name.rsplit("_", 2)
        teacher[rows, student.argmin(1)] = float(size)
        return student, teacher, float(temperature[1:])
    if name == "student_top1_logit_2500_T1":
        student[rows, student.argmax(1)] = 2500.0
        return student, teacher, 1.0
    assert name == "tiny_T"
    return student, teacher, 0.005


EXACT = {
    failure["name"]: failure["result"]["exact_inf_mask"]
    for failure in read("ldrld_failures")["failures"]
    # The inputs of the two "scale" rows were not stored.
    if "exact_inf_mask" in failure["result"] and not failure["name"].startswith("scale")
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_public_code_leaks_we_are_exact(name: str, dtype: torch.dtype) -> None:
    student, teacher, temperature = hard_inputs(name)
    student = student.to(dtype).requires_grad_()
    terms = ldrld_terms(student, teacher.to(dtype), depth=3, temperature=temperature)
    tolerance = 1e-12 if dtype == torch.float64 else 2e-6
    assert terms.local.item() == pytest.approx(float(EXACT[name]["ldrld"]), rel=tolerance)
    assert terms.rntk.item() == pytest.approx(float(EXACT[name]["rntk"]), rel=tolerance)
    for term in terms:
        assert gradient_of(term, student).isfinite().all()


@pytest.mark.parametrize("depth", [40, 44, 45, 46, 50, 59, 60])
def test_depths_that_overflow_the_public_codes_stack(depth: int) -> None:
    student, teacher = torch.randn(2, 2, 60, generator=torch.Generator().manual_seed(0)).double()
    loss = ldrld(student, teacher, depth=depth)
    torch.testing.assert_close(loss, reference(student, teacher, depth=depth), rtol=1e-9, atol=0)


@QUICK
@given(
    data=logits(max_classes=9),
    depth=st.integers(2, 9),
    switches=on_or_off,
    chosen_by=st.sampled_from(CHOOSERS),
    constants=st.fixed_dictionaries(
        {
            "temperature": st.floats(0.2, 10),
            "delta": st.floats(0.5, 3),
            "epsilon": st.floats(-0.5, 3),
            "decay": st.floats(0, 0.5),
            "mass": st.sampled_from([0.0, 1.5]),
        }
    ),
)
def test_reference(
    data: Logits, depth: int, switches: dict[str, bool], chosen_by: str, constants: dict[str, float]
) -> None:
    settings = {"depth": min(depth, data.student.shape[1]), "alpha": 3.0, "beta": 2.0, "chosen_by": chosen_by}
    settings |= switches | constants
    student = data.student.requires_grad_()
    loss, expected = ldrld(student, data.teacher, **settings), reference(student, data.teacher, **settings)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-10)
    expected = expected + 0 * student.sum()  # everything switched off leaves the oracle without a graph
    torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize(
    ("classes", "depth"),
    [(2, 2), (3, 2), (3, 3), (50, 49), (50, 50), (200, 33), (1000, 7), (10_000, 7), (10_000, 2), (10_000, 64)],
)
def test_sizes_from_two_to_ten_thousand_classes(classes: int, depth: int) -> None:
    data = make(2, classes, seed=classes)
    student = data.student.requires_grad_()
    loss = ldrld(student, data.teacher, depth=depth)
    if classes <= 1000 and depth <= 7:
        expected = reference(student, data.teacher, depth=depth)
        torch.testing.assert_close(gradient_of(loss, student), gradient_of(expected, student), rtol=1e-8, atol=1e-12)
    else:
        expected = reference(student.detach(), data.teacher, depth=depth)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0, check_dtype=True)
    torch.testing.assert_close(
        loss.float(), ldrld(student.float(), data.teacher.float(), depth=depth), rtol=1e-5, atol=0
    )


@QUICK
@given(data=logits(scales=(1.0,)), powers=st.tuples(st.floats(0, 30), st.floats(0, 30)))
def test_any_magnitude_equals_the_definition(data: Logits, powers: tuple[float, float]) -> None:
    student, teacher = (10.0 ** powers[0] * data.student).float(), (10.0 ** powers[1] * data.teacher).float()
    depth = min(3, student.shape[1])
    expected = reference(student, teacher, depth=depth)
    torch.testing.assert_close(ldrld(student, teacher, depth=depth).double(), expected, rtol=2e-5, atol=2e-5)


def test_a_huge_confident_teacher_meets_a_modest_student() -> None:
    student = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]])
    teacher = torch.tensor([[-1e30, 1e30, -1e30, 1e30, -1e30]])
    expected = reference(student, teacher, depth=2)
    assert expected < 1000
    torch.testing.assert_close(ldrld(student, teacher, depth=2).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("depth", [3, ARGMAX_ROUNDS + 1])
def test_ties_are_settled_the_same_way_every_time(depth: int) -> None:
    classes = depth + 5
    student = torch.zeros(2, classes, dtype=torch.float64, requires_grad=True)
    teacher = (torch.arange(classes) / 3).double().expand(2, -1)
    losses = {ldrld(student, teacher, depth=depth).item() for _ in range(3)}
    assert len(losses) == 1
    assert math.isfinite(losses.pop())
    assert gradient_of(ldrld(student, teacher, depth=depth), student).isfinite().all()


@QUICK
@given(data=logits(), chosen_by=st.sampled_from(CHOOSERS))
def test_equal_logits_rank_the_lower_class_first(data: Logits, chosen_by: str) -> None:
    student, teacher = data.student.round() % 3, data.teacher.round() % 4
    settings = {"depth": min(4, data.student.shape[1]), "chosen_by": chosen_by}
    expected = reference(student, teacher, **settings)
    torch.testing.assert_close(ldrld(student, teacher, **settings), expected, rtol=1e-9, atol=1e-11)


def test_led_by_the_teacher_the_loss_does_not_jump_where_student_logits_swap() -> None:
    teacher = torch.tensor([[1.0, 3.0, 2.0, 0.0, -1.0]], dtype=torch.float64)
    above, below = (torch.tensor([[2.0, 1.0 + step, 1.0, 0.5, 0.0]], dtype=torch.float64) for step in (1e-9, -1e-9))
    jumps = {by: abs(ldrld(above, teacher, depth=2, chosen_by=by) - ldrld(below, teacher, depth=2, chosen_by=by))
             for by in CHOOSERS}  # fmt: skip
    assert jumps["student"] > 0.1
    assert jumps["teacher"] < 1e-6


def test_where_both_networks_rank_alike_it_does_not_matter_who_chooses() -> None:
    student = make(4, 12, seed=10).student
    teacher = 3 * student.abs() * student  # another network with the same order
    published = ldrld(student, teacher)
    for chosen_by in ("teacher", "union"):
        torch.testing.assert_close(ldrld(student, teacher, chosen_by=chosen_by), published, rtol=1e-12, atol=0)


@pytest.mark.parametrize("chosen_by", ["teacher", "union"])
def test_the_variants_per_sample_compiled_and_in_half_precision(chosen_by: str) -> None:
    data = make(4, 12, seed=11)
    module, student = LDRLD(chosen_by=chosen_by), data.student.clone().requires_grad_()
    rows = module.rows(student, data.teacher)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher), rtol=1e-12, atol=0)
    compiled = torch.compile(module.rows, fullgraph=True, backend="aot_eager")(student, data.teacher)
    torch.testing.assert_close(compiled, rows, rtol=1e-10, atol=1e-12)
    half = module(data.student.bfloat16(), data.teacher.bfloat16())
    exact = module(data.student.bfloat16().double(), data.teacher.bfloat16().double())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), exact, rtol=1e-5, atol=0)


@QUICK
@given(data=logits(), depth=st.integers(2, 9), chosen_by=st.sampled_from(CHOOSERS))
def test_mass_and_the_parts_weighted_by_the_teachers_mass_are_the_kl_over_all_classes(
    data: Logits, depth: int, chosen_by: Chooser
) -> None:
    depth = min(depth, data.student.shape[1])
    how = {"depth": depth, "temperature": 2.0, "chosen_by": chosen_by, "average": False, "pairs": False}
    weights = {"mass": (0.0, 0.0, 1.0), "llki": (1.0, 0.0, 0.0), "rntk": (0.0, 1.0, 0.0)}
    mass, llki, rntk = (
        ldrld(data.student, data.teacher, **how, alpha=alpha, beta=beta, mass=weight, reduction="none")
        for alpha, beta, weight in weights.values()
    )
    top = choose_classes(data.student, data.teacher, depth, chosen_by)[0]
    share = (data.teacher / 2.0).softmax(1).gather(1, top).sum(1)
    whole = 4.0 * kl_rows((data.student / 2.0).log_softmax(1), (data.teacher / 2.0).log_softmax(1))
    torch.testing.assert_close(mass + share * llki + (1 - share) * rntk, whole, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mass_pulls_a_student_that_agrees_within_the_sets_but_not_between_them(dtype: torch.dtype) -> None:
    teacher = torch.tensor([[3.0, 2.0, 0.0, -1.0, -2.0]], dtype=dtype)
    shift = torch.tensor([[2.0, 2.0, 0.0, 0.0, 0.0]], dtype=dtype)
    student = (teacher + shift).requires_grad_()
    assert ldrld(student, teacher, depth=2) == 0
    loss = ldrld(student, teacher, depth=2, mass=1.0)
    assert loss > 0
    assert (gradient_of(loss, student).sign() == torch.tensor([[1, 1, -1, -1, -1]])).all()


def test_at_full_depth_nothing_is_left_for_the_mass() -> None:
    data = make(4, 6, seed=0)
    assert torch.equal(ldrld(data.student, data.teacher, depth=6, mass=2.0), ldrld(data.student, data.teacher, depth=6))


def test_an_unknown_chooser_is_refused() -> None:
    with pytest.raises(ValueError, match="chosen_by is 'label': give 'student', 'teacher' or 'union'"):
        LDRLD(chosen_by="label")  # type: ignore[arg-type]


@pytest.mark.parametrize("below", [0, 1])
def test_at_most_one_remaining_class_has_no_rntk(below: int) -> None:
    data = make(4, 6, seed=0)
    student = data.student.requires_grad_()
    rest = ldrld_terms(student, data.teacher, depth=6 - below).rntk
    assert rest == 0
    assert not gradient_of(rest, student).any()


def test_average_divides_by_the_number_of_terms() -> None:
    data = make(4, 12, seed=1)
    mean, plain = (ldrld_terms(data.student, data.teacher, average=flag).local for flag in (True, False))
    torch.testing.assert_close(plain, mean * 22)


def test_each_ablation_of_the_paper() -> None:
    data = make(4, 12, seed=2)
    values = {}
    for name in SWITCHES:
        values[name] = ldrld(data.student, data.teacher, **{name: False}).item()
        expected = reference(data.student, data.teacher, **{name: False}).item()
        assert values[name] == pytest.approx(expected, rel=1e-10)
    assert len({round(value, 6) for value in values.values()}) == len(SWITCHES)
    nothing = ldrld(data.student, data.teacher, pairs=False, llki=False, rntk=False)
    assert nothing == 0


def test_parts_add_up() -> None:
    data = make(4, 12, seed=3)
    terms = ldrld_terms(data.student, data.teacher)
    whole = ldrld(data.student, data.teacher, alpha=2.0, beta=3.0)
    torch.testing.assert_close(whole, 2 * terms.local + 3 * terms.rntk)
    pairs, llki = (ldrld_terms(data.student, data.teacher, **{off: False}).local for off in ("llki", "pairs"))
    torch.testing.assert_close(terms.local, pairs + llki)


def test_weights_kept_under_inference_mode_serve_training() -> None:
    data = make(4, 12, seed=4)
    with torch.inference_mode():
        ldrld(data.student, data.teacher, decay=0.0517)
    student = data.student.requires_grad_()
    assert gradient_of(ldrld(student, data.teacher, decay=0.0517), student).isfinite().all()


def test_backward_once_but_repeatable() -> None:
    data = make(4, 12, seed=5)
    student = data.student.requires_grad_()
    loss = ldrld(student, data.teacher)
    first = torch.autograd.grad(loss, student, retain_graph=True)[0]
    second = torch.autograd.grad(loss, student, create_graph=True)[0]
    torch.testing.assert_close(first, second)
    with pytest.raises(RuntimeError):
        second.sum().backward()


def test_inductor_equals_eager() -> None:
    data = make(8, 20, seed=6)
    student, teacher = data.student.float().requires_grad_(), data.teacher.float()
    loss = torch.compile(ldrld, fullgraph=True)(student, teacher, depth=4)
    eager = ldrld(student, teacher, depth=4)
    torch.testing.assert_close(loss, eager)
    torch.testing.assert_close(gradient_of(2 * loss, student), gradient_of(2 * eager, student))


@pytest.mark.parametrize("depth", [0, 1, -3, 7.0])
def test_refused_depths(depth: float) -> None:
    with pytest.raises(ValueError, match=f"depth is {depth}.*2 <= depth <= C"):
        LDRLD(depth=depth)


@pytest.mark.parametrize(("classes", "depth"), [(2, 2), (3, 3), (7, 7), (100, 7)])
def test_without_a_depth_it_is_the_published_one_or_all_classes(classes: int, depth: int) -> None:
    student, teacher = torch.randn(2, 8, classes).unbind()
    expected = ldrld(student, teacher, depth=depth)
    assert ldrld(student, teacher) == LDRLD()(student, teacher) == expected


def test_a_depth_above_c_is_refused() -> None:
    with pytest.raises(ValueError, match="depth is 9 but student_logits has C = 8"):
        ldrld(torch.zeros(4, 8), torch.zeros(4, 8), depth=9)


@pytest.mark.parametrize("name", ["alpha", "beta", "delta", "epsilon", "decay"])
def test_refused_constants(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is inf"):
        LDRLD(**{name: math.inf})


def test_refused_epsilon() -> None:
    with pytest.raises(ValueError, match="epsilon is -1"):
        LDRLD(epsilon=-1)


def test_reference_terms_without_remaining_classes() -> None:
    data = make(2, 4, seed=7)
    assert reference_terms(data.student, data.teacher, depth=4)[1] == 0


@QUICK
@given(data=logits(), depth=st.integers(2, 12), switches=on_or_off)
def test_rows_are_the_samples_losses(data: Logits, depth: int, switches: dict[str, bool]) -> None:
    module = LDRLD(depth=min(depth, data.student.shape[1]), temperature=3.0, **switches)
    student = data.student.requires_grad_()
    rows = module.rows(student, data.teacher)
    alone = torch.stack([module(student[i : i + 1], data.teacher[i : i + 1]) for i in range(len(rows))])
    torch.testing.assert_close(rows, alone, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(rows.mean(), module(student, data.teacher), rtol=1e-10, atol=1e-11)
    pull = torch.arange(1.0, 1 + len(rows), dtype=torch.float64)
    gradients = [gradient_of((pull * each).sum(), student) for each in (rows, alone)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_rows_compiled_and_without_a_gradient() -> None:
    data = make(4, 12, seed=8)
    module, student = LDRLD(), data.student.clone().requires_grad_()
    compiled = torch.compile(module.rows, fullgraph=True, backend="aot_eager")(student, data.teacher)
    rows = module.rows(student, data.teacher)
    pull = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64)
    torch.testing.assert_close(compiled, rows, rtol=1e-10, atol=1e-12)
    gradients = [gradient_of((pull * each).sum(), student) for each in (compiled, rows)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
    assert torch.equal(module.rows(data.student, data.teacher), rows)


def test_rows_of_half_precision_are_float32() -> None:
    data = make(4, 12, seed=9)
    student = data.student.half().requires_grad_()
    rows = LDRLD().rows(student, data.teacher.half())
    exact = LDRLD().rows(student.detach().double(), data.teacher.half().double())
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows.double(), exact, rtol=1e-5, atol=0)
    assert gradient_of(rows.sum(), student).dtype == torch.float16


def test_refused_reductions() -> None:
    with pytest.raises(ValueError, match="reduction is 'sum': give 'mean' or 'none'"):
        ldrld(torch.zeros(3, 8), torch.zeros(3, 8), reduction="sum")


def test_function_module_and_settings_have_the_same_names_and_defaults() -> None:
    described = {one.name: one.default for one in fields(LDRLDSettings)}
    of_module = {name: one.default for name, one in inspect.signature(LDRLD).parameters.items()}
    of_function = {name: one.default for name, one in inspect.signature(ldrld).parameters.items()}
    assert list(of_module.items()) == list(described.items())
    assert {name: of_function[name] for name in described} == described
    assert of_function.keys() - described.keys() == {"student_logits", "teacher_logits", "reduction"}


def test_every_setting_reaches_its_place() -> None:
    settings = {"depth": 3, "temperature": 2.0, "alpha": 3.0, "beta": 5.0, "delta": 1.7, "epsilon": 1.2, "decay": 0.3,
                "average": False, "pairs": True, "irw": False, "erd": True, "llki": False, "rntk": True,
                "backend": "torch", "chosen_by": "teacher", "mass": 1.5}  # fmt: skip
    module = LDRLD(**settings)
    assert vars(module.settings) == settings
    data = make(4, 9, seed=4)
    loss = module(data.student, data.teacher)
    assert torch.equal(ldrld(data.student, data.teacher, **settings), loss)
    del settings["backend"]
    torch.testing.assert_close(loss, reference(data.student, data.teacher, **settings))
