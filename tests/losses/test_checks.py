"""What losses refuse at their door, and what they take: leading dimensions, labels out of range."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from stillroom import losses
from stillroom.losses.checks import check_logits, check_target
from stillroom.losses.protocol import needs_of

B, T, C = 2, 3, 7

MEANS: dict[str, Callable[[], nn.Module]] = {
    "kd": losses.KD,
    "dkd": losses.DKD,
    "nkd": losses.NKD,
    "ldrld": losses.LDRLD,
    "ttm": losses.TTM,
    "wttm": losses.WTTM,
    "wsld": losses.WSLD,
    "rld": losses.RLD,
    "ctkd": losses.CTKD,
    "swap": losses.SWAP,
    "hard": losses.HardLabels,
    "rc": losses.RC,
    "normkd": losses.NormKD,
    "normdkd": losses.NormDKD,
    "bild": losses.BiLD,
    "pld": losses.PLD,
    "lskd": lambda: losses.Standardized(losses.DKD()),
}
RELATING: dict[str, Callable[[], nn.Module]] = {
    "dist": losses.DIST,
    "mlkd": losses.MLKD,
    "crld": losses.CRLD,
    "luminet": losses.LumiNet,
    "revision": losses.REVISION,
}


def draw(*shape: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    parts = ("student_logits", "teacher_logits", "student_logits_strong", "teacher_logits_strong")
    found = {part: torch.randn(*shape, C, generator=generator) for part in parts}
    return found | {"target": torch.randint(0, C, shape, generator=generator)}


def call(module: nn.Module, given: dict[str, Tensor], method: str = "forward") -> Tensor:
    wanted = {name: given[name] for name in needs_of(module) if name in given}
    loss: Tensor = getattr(module, method)(**wanted)
    return loss


@pytest.mark.parametrize("name", MEANS)
def test_leading_dimensions_are_samples(name: str) -> None:
    module, whole = MEANS[name](), draw(B, T)
    flat = {key: value.flatten(0, 1) for key, value in whole.items()}
    for given in (whole, flat):
        given["student_logits"].requires_grad_()
        call(module, given).backward()
    torch.testing.assert_close(call(module, whole), call(module, flat), rtol=0, atol=0)
    gradients = whole["student_logits"].grad, flat["student_logits"].grad
    torch.testing.assert_close(gradients[0].flatten(0, 1), gradients[1], rtol=0, atol=0)


@pytest.mark.parametrize("name", [name for name, make in MEANS.items() if hasattr(make(), "rows")])
def test_rows_keep_the_leading_dimensions(name: str) -> None:
    module, whole = MEANS[name](), draw(B, T)
    rows = call(module, whole, "rows")
    assert rows.shape == (B, T)
    torch.testing.assert_close(rows.mean(), call(module, whole))


def test_leading_dimensions_compile() -> None:
    module, given = losses.DKD(), draw(B, T)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    wanted = [given[name] for name in needs_of(module)]
    torch.testing.assert_close(compiled(*wanted), module(*wanted))


@pytest.mark.parametrize("name", RELATING)
def test_losses_that_relate_samples_say_how_to_flatten(name: str) -> None:
    given = draw(B, T)
    with pytest.raises(ValueError, match=r"student_logits has shape \(2, 3, 7\).*relates.*logits\.flatten\(0, -2\)"):
        call(RELATING[name](), given)
    assert call(RELATING[name](), {key: value.flatten(0, 1) for key, value in given.items()}).isfinite()


def test_embeddings_of_sequences_say_how_to_flatten() -> None:
    sequences = torch.zeros(B, T, 5)
    with pytest.raises(ValueError, match=r"student_embedding has shape \(2, 3, 5\).*\.flatten\(0, 1\)"):
        losses.pkt(sequences, sequences)


WITH_TARGET = ["dkd", "nkd", "wsld", "rld", "swap", "rc", "revision", "normdkd", "pld"]


@pytest.mark.parametrize("name", WITH_TARGET)
@pytest.mark.parametrize(
    ("label", "message"),
    [
        (-100, r"target holds -100: class indices must lie in \[0, 7\); drop rows without a label .*target\[keep\]"),
        (-1, r"target holds -1"),
        (C, r"target holds 7: class indices must lie in \[0, 7\) .* count labels from 0"),
        (255, r"target holds 255"),
    ],
)
def test_labels_that_name_no_class_are_refused(name: str, label: int, message: str) -> None:
    module, given = (MEANS | RELATING)[name](), draw(B)
    given["target"][1] = label
    with pytest.raises(ValueError, match=message):
        call(module, given)


def test_labels_are_not_read_where_that_would_wait_for_a_device() -> None:
    logits = torch.zeros(3, C, device="meta")
    check_target(torch.full((3,), -100, device="meta"), logits)
    compiled = torch.compile(check_target, fullgraph=True, backend="eager")
    compiled(torch.zeros(3, dtype=torch.long), torch.zeros(3, C))


def test_labels_work_under_vmap() -> None:
    given = draw(B, T)
    mapped = torch.vmap(losses.dkd)(given["student_logits"], given["teacher_logits"], given["target"])
    torch.testing.assert_close(mapped.mean(), losses.dkd(*(given[name] for name in needs_of(losses.DKD()))))


def test_targets_need_the_leading_dimensions_of_the_logits() -> None:
    given = draw(B, T)
    with pytest.raises(ValueError, match=r"target has shape \(6,\).*\(2, 3, 7\)"):
        losses.dkd(given["student_logits"], given["teacher_logits"], given["target"].flatten())


@pytest.mark.parametrize("shape", [(0, 3, C), (2, 0, C)])
def test_empty_leading_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"student_logits has shape .* empty batch"):
        check_logits(torch.zeros(shape), torch.zeros(shape), leading=True)
