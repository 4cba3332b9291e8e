"""The compiled function equals the plain computation up to float32's rounding, and is taken only where it can be."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from stillroom.losses import LDRLD, ldrld
from stillroom.losses.kernels import ldrld as kernel
from stillroom.losses.kernels.class_choice import CHOOSERS, Chooser
from stillroom.losses.logit.ldrld_settings import adaptive_decay_weights
from stillroom.methods import parse_method
from tests.golden import Golden, cases
from tests.losses.draw import QUICK, Logits, gradient_of, logits, make

ldrld_numba = pytest.importorskip("stillroom.losses.kernels.ldrld_numba")  # without the extra there is no Numba


def both(student: Tensor, teacher: Tensor, **settings: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Loss and gradient compiled, of float32, and by the closed form, of the same numbers as float64."""
    narrow, wide = student.float().requires_grad_(), student.float().double().requires_grad_()
    compiled = ldrld(narrow, teacher.float(), backend="numba", **settings)
    exact = ldrld(wide, teacher.float().double(), **settings)
    assert compiled.dtype == torch.float32
    pull = torch.linspace(-1.0, 2.0, exact.numel(), dtype=torch.float64).reshape(exact.shape)
    return (
        (compiled.detach().double(), gradient_of((pull * compiled).sum(), narrow).double()),
        (exact.detach(), gradient_of((pull * exact).sum(), wide)),
    )


@QUICK
@given(
    data=logits(max_classes=80, scales=(0.1, 5.0, 50.0)),
    depth=st.integers(2, 70),
    parts=st.fixed_dictionaries({name: st.booleans() for name in ("pairs", "llki", "rntk")}),
    temperature=st.sampled_from([1.0, 3.0, 4.0]),
    reduction=st.sampled_from(["mean", "none"]),
    chosen_by=st.sampled_from(CHOOSERS),
)
def test_compiled_equals_closed_form(
    data: Logits,
    depth: int,
    parts: dict[str, bool],
    temperature: float,
    reduction: Literal["mean", "none"],
    chosen_by: Chooser,
) -> None:
    depth = min(depth, data.student.shape[1])
    compiled, exact = both(
        data.student,
        data.teacher,
        depth=depth,
        temperature=temperature,
        reduction=reduction,
        chosen_by=chosen_by,
        **parts,
    )
    # A KL is T^2 times the sum of terms as large as the logits / T that cancel.
    largest = max(data.student.abs().max().item(), data.teacher.abs().max().item())
    torch.testing.assert_close(compiled[0], exact[0], rtol=1e-5, atol=1e-5 * temperature * (1 + largest))
    torch.testing.assert_close(compiled[1], exact[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("chosen_by", CHOOSERS)
@pytest.mark.parametrize(("batch", "classes"), [(64, 100), (256, 200), (2, 50_000)])
def test_compiled_equals_closed_form_at_full_size(batch: int, classes: int, chosen_by: Chooser) -> None:
    data = make(batch, classes, seed=3)
    torch.testing.assert_close(*both(data.student, data.teacher, chosen_by=chosen_by), rtol=1e-5, atol=1e-6)


def test_a_mass_term_is_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(8, 30, seed=4)
    wanted = ldrld(data.student.float(), data.teacher.float(), mass=2.0)
    monkeypatch.setattr(ldrld_numba, "_rows", None)
    assert torch.equal(ldrld(data.student.float(), data.teacher.float(), mass=2.0, backend="numba"), wanted)


# The public code gives a pair another weight, and goes on where nothing remains, see docs/methods/ldrld.md.
GOLDEN = [case for case in cases("ldrld") if 2 < case.hyper["k"] < case.arrays["student_logits"].shape[1] - 1]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case.name)
def test_golden(case: Golden) -> None:
    student, teacher = case.tensor("student_logits"), case.tensor("teacher_logits")
    narrow = student.float().requires_grad_()
    hyper = {"alpha": case.hyper["alpha"], "beta": case.hyper["beta"], "temperature": case.hyper["T"]}
    loss = ldrld(narrow, teacher.float(), depth=case.hyper["k"], backend="numba", **hyper)
    case.check("total", loss.double(), gradient_of(loss, narrow).double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shift", [0.0, 8.0])
def test_networks_that_agree_have_no_loss_and_no_gradient(shift: float) -> None:
    # Eighths, so that the shift rounds nothing.
    student = (8 * make(16, 30, seed=4).student).round().div(8).float().requires_grad_()
    loss = ldrld(student, student.detach() + shift, backend="numba")
    assert loss == 0
    assert not gradient_of(loss, student).any()


def test_of_equal_logits_the_lower_class_goes_first() -> None:
    teacher = torch.tensor([[0.0, 2.0, 7.0, 1.0, 9.0, 3.0]])
    compiled, by_lower_class = both(torch.zeros(1, 6), teacher, depth=3)
    torch.testing.assert_close(compiled, by_lower_class, rtol=1e-5, atol=1e-6)
    other, _ = both(torch.zeros(1, 6), teacher[:, [1, 0, 2, 3, 4, 5]], depth=3)
    assert (other[0] - compiled[0]).abs() > 0.1


def test_columns_of_a_wider_tensor() -> None:
    wide = torch.randn(2, 8, 40, generator=torch.Generator().manual_seed(5))
    student, teacher = wide[:, :, ::2].unbind()
    expected = ldrld(student.contiguous(), teacher.contiguous(), backend="numba")
    student.requires_grad_()
    loss = ldrld(student, teacher, backend="numba")
    assert loss == expected
    assert gradient_of(loss, student).shape == (8, 20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    data = make(8, 30, seed=6)
    student, teacher = data.student.to(dtype).requires_grad_(), data.teacher.to(dtype)
    loss, exact = ldrld(student, teacher, backend="numba"), ldrld(student.double(), teacher.double())
    torch.testing.assert_close(loss.double(), exact, rtol=1e-6, atol=0)
    assert gradient_of(loss, student).dtype == dtype


def test_forward_saves_one_tensor() -> None:
    data, saved = make(8, 50, seed=2), []

    def note(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        ldrld(data.student.float().requires_grad_(), data.teacher.float(), backend="numba")
    assert saved == [torch.Size([8, 50])]


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_only_float32_outside_compiled_code_is_compiled(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, evaluate = [], ldrld_numba.loss_and_gradient

    def counted(*arguments: Any) -> tuple[Tensor, Tensor]:
        calls.append(arguments)
        return evaluate(*arguments)

    monkeypatch.setattr(ldrld_numba, "loss_and_gradient", counted)
    data = make(4, 12, seed=8)
    loss = LDRLD(backend=backend)
    narrow = loss(data.student.float(), data.teacher.float())
    assert len(calls) == (backend == "numba")
    wide = loss(data.student, data.teacher)
    traced = torch.compile(loss, fullgraph=True, backend="aot_eager")(data.student.float(), data.teacher.float())
    assert len(calls) == (backend == "numba")
    torch.testing.assert_close(torch.stack([narrow.double(), traced.double()]), wide.repeat(2), rtol=1e-6, atol=0)


def test_a_method_may_name_the_backend() -> None:
    (loss,) = (module for module in parse_method("ce + ldrld(backend='numba')").modules() if isinstance(module, LDRLD))
    assert loss.settings.backend == "numba"


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="backend is 'cuda': give 'torch' or 'numba'"):
        LDRLD(backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        ldrld(torch.zeros(1, 3), torch.zeros(1, 3), backend="cuda")  # type: ignore[arg-type]


def test_without_numba_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "find_spec", lambda name: None if name == "numba" else importlib.util.find_spec(name))
    with pytest.raises(ValueError, match=r"Numba is not installed: pip install 'stillroom\[numba\]'"):
        LDRLD(backend="numba")
    assert LDRLD()(torch.zeros(1, 3), torch.zeros(1, 3)) == 0


def test_importing_the_losses_does_not_import_numba() -> None:
    code = "import sys, stillroom.losses; stillroom.losses.LDRLD(); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_weights_off_and_on_the_diagonal() -> None:
    data = make(4, 9, seed=9)
    weights = adaptive_decay_weights(5).fill_diagonal_(0.3)
    arguments = (data.student.float(), data.teacher.float(), weights.float(), 0.7, 2.0)
    compiled = kernel.ldrld_closed_form(*arguments, backend="numba")
    torch.testing.assert_close(compiled, kernel.ldrld_reference(*arguments), rtol=1e-5, atol=1e-6)
