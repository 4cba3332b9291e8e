from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillroom.batch import Output
from stillroom.errors import InputError
from stillroom.losses import DKD, Standardized, dkd, kd, ldrld, standardize
from stillroom.losses.protocol import settings_of
from stillroom.methods import PRESETS, parse_method


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Output(3 * torch.randn(6, 10, generator=generator)) for _ in range(2))
    return student, teacher, torch.arange(6)


def total(text, outputs, epoch=1):
    return sum(parse_method(text)(*outputs, epoch).values())


def test_a_name_alone_carries_its_default_weights(outputs):
    student, teacher, target = outputs
    ce = F.cross_entropy(student.logits, target)
    torch.testing.assert_close(total("kd", outputs), 0.1 * ce + 0.9 * kd(student.logits, teacher.logits))
    torch.testing.assert_close(total("ldrld", outputs), ce + ldrld(student.logits, teacher.logits))
    torch.testing.assert_close(total("ce", outputs), ce)


@pytest.mark.parametrize("name", PRESETS)
def test_every_loss_is_reachable_by_its_name_and_its_repr_names_its_settings(name):
    method = parse_method(name)
    assert [term.name for term in method.terms] == [name]
    assert isinstance(method.terms[0].loss, PRESETS[name].loss)
    written = repr(method.terms[0].loss)
    for parameter in settings_of(PRESETS[name].loss):
        assert f"{parameter}=" in written


def test_weights_and_parameters_are_taken_from_the_text(outputs):
    student, teacher, target = outputs
    wanted = (
        0.5 * F.cross_entropy(student.logits, target)
        + 2 * kd(student.logits, teacher.logits, temperature=2.0)
        + 3 * dkd(student.logits, teacher.logits, target, beta=2.0)
    )
    text = "0.5*ce + 2*kd(temperature=2) + 3*dkd(beta=2, warmup=0)"
    torch.testing.assert_close(total(text, outputs), wanted)


def test_a_wrapper_stands_around_a_loss(outputs):
    student, teacher, target = outputs
    text = "0.1*ce + 9*standardized(dkd(temperature=2, warmup=2))"
    wanted = 9 * 0.5 * Standardized(DKD(temperature=2.0))(student.logits, teacher.logits, target)
    terms = parse_method(text)(*outputs, 1)
    torch.testing.assert_close(terms["standardized_dkd"], wanted)
    alone = parse_method("standardized(ldrld(depth=3))")
    assert alone.ce == 1
    torch.testing.assert_close(
        alone(*outputs)["standardized_ldrld"],
        ldrld(standardize(student.logits), standardize(teacher.logits), depth=3),
    )


def test_the_same_loss_twice_keeps_two_names(outputs):
    terms = parse_method("kd(temperature=1) + kd(temperature=4)")(*outputs)
    assert list(terms) == ["ce", "kd", "kd_2"]
    assert terms["kd"] != terms["kd_2"]


def test_only_teacher_losses_need_a_teacher():
    assert not parse_method("ce").needs_teacher
    assert parse_method("kd").needs_teacher


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ldrl", "did you mean ldrld"),
        ("nothing", "known are ce, kd"),
        ("kd(temprature=4)", "no parameter 'temprature'"),
        ("kd(temperature=-1)", "temperature"),
        ("kd(temperature='x')", "type float"),
        ("ctkd(loops=2.5)", "type int"),
        ("ctkd(loops=true)", "must be a number"),
        ("ldrld(depth=2.5)", "depth is 2.5: it must be a whole number"),
        ("ldrld(depth=true)", "depth is True: it must be a whole number"),
        ("kd(4)", "not understood"),
        ("standardized(kd, dkd)", "goes around one loss"),
        ("standardized", "goes around one loss"),
        ("standardized(ce)", "no loss is called 'ce'"),
        ("kd(dkd)", "losses only inside"),
        ("ce(2)", "without parameters"),
        ("standardized(2*kd)", "not understood"),
        ("kd * 2", "not understood"),
        ("-1*kd", "not understood"),
        ("kd + ", "cannot be read"),
        ("", "cannot be read"),
        ("ce + ce", "ce once"),
        ("0*ce", "every weight is zero"),
        ("0*ce + 0*kd", "every weight is zero"),
        ("1e999*kd", "finite"),
        ("kd(**{})", "not understood"),
        ("__import__('os').system('true')", "not understood"),
        ("kd(temperature=open('x'))", "no plain value"),
        ("dkd(warmup=0.5)", "whole number"),
        ("'a'*kd", "no weight"),
    ],
)
def test_texts_that_cannot_be_meant_are_refused_in_one_line(text, says):
    with pytest.raises(InputError, match=says) as caught:
        parse_method(text)
    assert "\n" not in str(caught.value)


def test_depth_above_the_class_count_is_found_before_training():
    parse_method("ldrld(depth=7)").check(7)
    with pytest.raises(InputError, match=r"depth.*7.*6|depth.*6.*7"):
        parse_method("ldrld(depth=7)").check(6)


class Cosine(nn.Module):
    """A loss of one's own, reachable as tests.methods.test_grammar.Cosine."""

    def __init__(self, sharp: float = 1.0) -> None:
        super().__init__()
        self.sharp = sharp

    def forward(self, student_logits, teacher_logits):
        return self.sharp * (1 - F.cosine_similarity(student_logits, teacher_logits)).mean()


class Pointed(Cosine):
    """A loss whose parameters show no type by their defaults."""

    def __init__(self, edge: float, point: float | None = None) -> None:
        super().__init__(edge if point is None else point)


def test_parameters_without_a_telling_default_take_what_the_loss_takes(outputs):
    student, teacher, _ = outputs
    for text, sharp in (("Pointed(edge=3)", 3.0), ("Pointed(edge=3, point=2.5)", 2.5)):
        terms = parse_method(f"tests.methods.test_grammar.{text}")(*outputs, 1)
        torch.testing.assert_close(terms["pointed"], Cosine(sharp)(student.logits, teacher.logits))


def test_a_loss_of_ones_own_is_written_with_its_module(outputs):
    student, teacher, _ = outputs
    terms = parse_method("0.5*ce + 2*tests.methods.test_grammar.Cosine(sharp=3, warmup=2)")(*outputs, 1)
    torch.testing.assert_close(terms["cosine"], 0.5 * 2 * Cosine(3.0)(student.logits, teacher.logits))
    for text, says in (
        ("tests.methods.test_grammar.Cosin", "did you mean Cosine"),
        ("tests.methods.nowhere.Cosine", "cannot be imported"),
        ("tests.methods.test_grammar.pytest", "not a function or class"),
        ("tests.methods.test_grammar.total", "no loss"),
        ("tests.methods.test_grammar.Cosine(blunt=1)", "no parameter 'blunt'"),
        ("tests.methods.test_grammar.Pointed(point=2.5)", "missing 1 required positional argument: 'edge'"),
    ):
        with pytest.raises(InputError, match=says):
            parse_method(text)
