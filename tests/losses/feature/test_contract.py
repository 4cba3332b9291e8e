"""What every feature loss promises, whatever it compares."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stillroom import losses
from stillroom.losses.protocol import connect_needs_of, needs_of, properties_of

BATCH, CLASSES = 6, 5
TRAIN_LABELS = torch.arange(20) % CLASSES

MODULES: dict[str, Callable[[], nn.Module]] = {
    "fitnet": losses.FitNet,
    "at": losses.AT,
    "sp": losses.SP,
    "cc": lambda: losses.CC(dim=7),
    "vid": losses.VID,
    "rkd": losses.RKD,
    "pkt": losses.PKT,
    "nst": losses.NST,
    "fsp": losses.FSP,
    "ft_initial": lambda: losses.FT(initial_epochs=1),
    "ft": lambda: losses.FT(initial_epochs=0),
    "ab": losses.AB,
    "crd": lambda: losses.CRD(dim=7, negatives=9),
    "ofd": losses.OFD,
    "reviewkd": losses.ReviewKD,
    "simkd": losses.SimKD,
    "catkd": losses.CATKD,
    "itrd": losses.ITRD,
    "ickd": losses.ICKD,
    "srd": losses.SRD,
    "ofa": losses.OFA,
    "wkd_f": lambda: losses.WKDF(grid=2),
    "sdd": lambda: losses.SDD(losses.KD()),
    "uskd": losses.USKD,
    "embed_cosine": losses.EmbedCosine,
    "embed_mse": losses.EmbedMSE,
    "embed_queue": lambda: losses.EmbedQueue(size=11),
}
every_loss = pytest.mark.parametrize("name", MODULES)


def every_loss_but(*names: str) -> pytest.MarkDecorator:
    """For a promise that the definition of some losses rules out; their own tests say what holds instead."""
    return pytest.mark.parametrize("name", [name for name in MODULES if name not in names])


def inputs(name: str, seed: int = 0, batch: int = BATCH, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Everything a loss may ask for, of two networks of different widths and map sizes."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64).to(dtype)

    same = name in ("fsp", "simkd")  # compare channel by channel; SimKD's projector is part of its student
    widths = {"student": (6, 8), "teacher": (6, 8) if same else (8, 10)}
    sides = {"student": (8, 4), "teacher": (8, 4) if name == "fsp" else (4, 4)}
    found: dict[str, Any] = {
        "target": torch.arange(batch) % CLASSES, "ids": torch.arange(batch) * 2, "epoch": 1,
        "train_labels": TRAIN_LABELS,
    }  # fmt: skip
    for side in ("student", "teacher"):
        shapes = [(width, size, size) for width, size in zip(widths[side], sides[side], strict=True)]
        for part in ("maps", "features", "preact_maps"):
            found[f"{side}_{part}"] = tuple(draw(*shape) for shape in shapes)
        found[f"{side}_final_map"] = draw(*shapes[-1])
        found[f"{side}_embedding"] = draw(widths[side][-1])
        found[f"{side}_logits"] = draw(CLASSES)
        torch.manual_seed(4)
        found[f"{side}_head"] = nn.Linear(widths[side][-1], CLASSES).to(dtype)
    return found


def connected(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    module = MODULES[name]()
    needs = connect_needs_of(module)
    torch.manual_seed(1)
    if needs:
        examples = inputs(name, seed=9)
        assert module.connect(**{need: examples[need] for need in needs}) is module
    return module.to(dtype)


def call(name: str, module: nn.Module, given: dict[str, Any]) -> Tensor:
    """Run a loss; where it draws, always the same."""
    torch.manual_seed(2)
    loss = module(**{need: given[need] for need in needs_of(module)})
    assert isinstance(loss, Tensor)
    assert loss.shape == ()
    return loss


def leaves(module: nn.Module, given: dict[str, Any], side: str) -> list[Tensor]:
    """The tensors of one network that a loss reads, as leaves that want a gradient."""
    found: list[Tensor] = []
    for need in needs_of(module):
        if need.startswith(side) and not need.endswith("head"):
            value = given[need]
            wanted = [t.clone().requires_grad_() for t in (value if isinstance(value, tuple) else (value,))]
            given[need] = tuple(wanted) if isinstance(value, tuple) else wanted[0]
            found += wanted
    return found


def value_and_gradients(name: str, module: nn.Module, given: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    students = leaves(module, given, "student")
    loss = call(name, module, given)
    gradients = torch.autograd.grad(loss, students, allow_unused=True) if loss.requires_grad else [None] * len(students)
    return loss.detach(), [
        g if g is not None else torch.zeros_like(s) for g, s in zip(gradients, students, strict=True)
    ]


@every_loss
def test_value_and_gradients_are_finite_and_the_student_is_moved(name: str) -> None:
    loss, gradients = value_and_gradients(name, connected(name), inputs(name))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    if name != "ft_initial":  # trains the paraphraser only
        assert any(gradient.abs().max() > 0 for gradient in gradients)


def part(given: dict[str, Any], rows: slice) -> dict[str, Any]:
    """Some samples of a batch."""

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(each[rows] for each in value)
        return value[rows] if isinstance(value, Tensor) and name != "train_labels" else value

    return {name: cut(name, value) for name, value in given.items()}


@pytest.mark.parametrize("name", [name for name in MODULES if properties_of(MODULES[name]()).per_sample])
def test_a_loss_that_says_so_is_the_mean_over_samples(name: str) -> None:
    module, given = connected(name, torch.float64).eval(), inputs(name, dtype=torch.float64)
    halves = [call(name, module, part(given, rows)) for rows in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(sum(halves) / 2, call(name, module, given))


@every_loss
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e4])
def test_extreme_features_stay_finite(name: str, scale: float) -> None:
    given = inputs(name)
    for key, value in given.items():
        if key.startswith(("student", "teacher")) and not key.endswith("head"):
            given[key] = tuple(scale * t for t in value) if isinstance(value, tuple) else scale * value
    loss, gradients = value_and_gradients(name, connected(name), given)
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss_but("cc")  # compares neighbours in the batch
def test_samples_have_no_order(name: str) -> None:
    module, given = connected(name, torch.float64), inputs(name, dtype=torch.float64)
    module.eval()  # no memory changes between the two calls
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))

    def shuffled(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(tensor[order] for tensor in value)
        return value[order] if isinstance(value, Tensor) and len(value) == BATCH else value

    other = {key: shuffled(value) for key, value in given.items()}
    if name == "crd":  # the negatives are drawn sample by sample
        pytest.skip("its draws are the sample's; test_crd.py gives fixed ones")
    torch.testing.assert_close(call(name, module, other), call(name, module, given), rtol=1e-9, atol=1e-11)


@every_loss_but("ab")  # a sum over thresholds that half precision may fall on either side of
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features_give_a_float32_loss_and_half_gradients(name: str, dtype: torch.dtype) -> None:
    module = connected(name)
    given = inputs(name, dtype=dtype)
    wide = {
        key: tuple(t.float() for t in value) if isinstance(value, tuple)
        else value.float() if isinstance(value, Tensor) and value.is_floating_point()
        else copy.deepcopy(value).float() if isinstance(value, nn.Module) else value
        for key, value in given.items()
    }  # fmt: skip
    twin = copy.deepcopy(module)
    loss, gradients = value_and_gradients(name, module, given)
    exact, _ = value_and_gradients(name, twin, wide)
    assert loss.dtype == torch.float32
    assert all(gradient.dtype == dtype for gradient in gradients)
    torch.testing.assert_close(loss, exact, rtol=2e-3, atol=1e-6)


@every_loss
def test_float64_stays_float64(name: str) -> None:
    module, given = connected(name, torch.float64), inputs(name, dtype=torch.float64)
    assert call(name, module, given).dtype == torch.float64


@every_loss_but("uskd")  # has no teacher
def test_the_teacher_gets_no_gradient(name: str) -> None:
    module, given = connected(name), inputs(name)
    teachers = leaves(module, given, "teacher")
    leaves(module, given, "student")
    loss = call(name, module, given)
    if loss.requires_grad:
        loss.backward()
    assert teachers
    assert all(teacher.grad is None for teacher in teachers)
    assert given["teacher_head"].weight.grad is None


@every_loss
def test_the_upstream_gradient_scales(name: str) -> None:
    module, given = connected(name).eval(), inputs(name)
    twin = copy.deepcopy(module)
    _, gradients = value_and_gradients(name, module, dict(given))
    students = leaves(twin, given, "student")
    loss = -3 * call(name, twin, given)
    scaled = torch.autograd.grad(loss, students, allow_unused=True) if loss.requires_grad else [None]
    for gradient, larger in zip(gradients, scaled, strict=False):
        if larger is not None:
            torch.testing.assert_close(larger, -3 * gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("unseen_values")
@every_loss
def test_a_nan_is_not_hidden(name: str) -> None:
    module, given = connected(name), inputs(name)
    side = "teacher" if name == "ft_initial" else "student"
    for tensor in leaves(module, given, side):
        with torch.no_grad():
            tensor.fill_(torch.nan)
    assert call(name, module, given).isnan()


@every_loss
def test_compiled_equals_eager(name: str) -> None:
    module, given = connected(name).eval(), inputs(name)
    expected, gradients = value_and_gradients(name, copy.deepcopy(module), dict(given))
    if name == "crd":  # compiled code draws from torch's generator in its own way
        pytest.skip("test_crd.py compiles it with given negatives")
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    students = leaves(module, given, "student")
    loss = compiled(**{need: given[need] for need in needs_of(module)})
    torch.testing.assert_close(loss.detach(), expected, rtol=1e-5, atol=1e-6)
    if loss.requires_grad:
        for gradient, wanted in zip(torch.autograd.grad(loss, students, allow_unused=True), gradients, strict=True):
            torch.testing.assert_close(torch.zeros_like(wanted) if gradient is None else gradient, wanted,
                                       rtol=1e-4, atol=1e-5)  # fmt: skip


@every_loss
def test_modules_copy_pickle_and_load_their_state(name: str) -> None:
    module, given = connected(name).eval(), inputs(name)
    expected = call(name, module, given)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(call(name, twin, given), expected, rtol=0, atol=0)
    fresh = MODULES[name]()
    needs = connect_needs_of(fresh)
    if needs:
        examples = inputs(name, seed=9)
        torch.manual_seed(77)
        fresh.connect(**{need: examples[need] for need in needs})
    fresh.load_state_dict(module.state_dict())
    torch.testing.assert_close(call(name, fresh.eval(), given), expected, rtol=0, atol=0)


@every_loss
def test_every_tensor_moves_with_the_module(name: str) -> None:
    module = connected(name).to("meta")
    assert all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers()))
    for part in module.modules():
        assert not [key for key, value in vars(part).items() if isinstance(value, Tensor)]


@every_loss
def test_before_connect_it_says_what_to_call(name: str) -> None:
    module = MODULES[name]()
    if not connect_needs_of(module):
        pytest.skip("has no connectors")
    assert not list(module.parameters()) or name == "ctkd"
    pickle.loads(pickle.dumps(module))
    with pytest.raises(RuntimeError, match=r"call connect\("):
        call(name, module, inputs(name))


@every_loss_but("itrd", "srd")  # a correlation or a variance of one sample does not exist; they say so
def test_a_batch_of_one(name: str) -> None:
    module = connected(name).eval()
    loss, gradients = value_and_gradients(name, module, inputs(name, batch=1))
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@every_loss
def test_refused_features_name_the_argument(name: str) -> None:
    module = connected(name)
    for need in needs_of(module):
        if not need.startswith(("student", "teacher")) or need.endswith("head"):
            continue
        for spoil in (lambda t: t[..., 0], lambda t: t.long(), lambda t: t[:0]):
            given = inputs(name)
            value = given[need]
            given[need] = tuple(spoil(t) for t in value) if isinstance(value, tuple) else spoil(value)
            if need.endswith("features") and given[need][-1].dim() == 3 and given[need][-1].is_floating_point():
                continue  # features may have any shape
            with pytest.raises(ValueError, match=r"student|teacher"):
                call(name, module, given)


@every_loss
def test_two_sizes_of_batch_are_refused(name: str) -> None:
    module, given, less = connected(name), inputs(name), inputs(name, batch=BATCH - 1)
    mixed = {key: less[key] if key.startswith("teacher") else value for key, value in given.items()}
    if name == "uskd":
        mixed = given | {"student_maps": less["student_maps"]}
    with pytest.raises(ValueError, match=r"batch size|shape"):
        call(name, module, mixed)
