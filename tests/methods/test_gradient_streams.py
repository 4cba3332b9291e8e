"""Which terms of a method belong to which gradient stream."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.batch import Mixture, Output
from stillroom.methods import Method, Term, parse_method
from stillroom.methods.gradient_streams import streams_used, values_by_stream
from stillroom.optim import DOT, DeepKD

TARGET = torch.tensor([0, 1, 2, 0])
MIXTURE = Mixture(torch.tensor([1, 0, 0, 2]), torch.tensor([0.3, 0.7, 1.0, 0.5]))


def networks():
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 4, 5, generator=generator)
    return Output(student.requires_grad_()), Output(teacher)


def sorted_values(method, streams, epoch=1, mixture=None):
    student, teacher = networks()
    given = (student, teacher, TARGET, epoch, None, None, mixture)
    values = values_by_stream(method, streams, method.values(*given, apart=len(streams) > 2))
    return values, torch.stack(list(method(*given).values())), student.logits


@pytest.mark.parametrize("mixture", [None, MIXTURE], ids=["plain", "mixed"])
@pytest.mark.parametrize("streams", [DOT.streams, DeepKD.streams])
@pytest.mark.parametrize(
    "text", ["ce + kd", "dkd(beta=2, warmup=0)", "ce + 2*standardized(dkd(top_k=3)) + kd", "0*ce + dkd(coupled=true)"]
)
def test_the_streams_sum_up_to_the_terms(streams, text, mixture):
    values, terms, logits = sorted_values(parse_method(text), streams, mixture=mixture)
    assert tuple(values) == streams
    torch.testing.assert_close(torch.stack(list(values.values())).sum(0), terms)
    one, other = (torch.autograd.grad(v.sum(), logits, retain_graph=True)[0] for v in (terms, sum(values.values())))
    torch.testing.assert_close(one, other)


def test_the_cross_entropy_is_the_task_and_a_loss_against_the_teacher_is_not():
    values, terms, _ = sorted_values(parse_method("0.5*ce + 2*kd"), DOT.streams)
    ce, kd = terms.tolist()
    assert values["task"].tolist() == [ce, 0]
    assert values["distillation"].tolist() == [0, kd]


class Focal(nn.Module):
    def forward(self, student_logits, target):
        return student_logits.square().mean()


def test_a_models_own_loss_is_the_task_and_is_called_supervised():
    method = parse_method("supervised + 2*kd")
    method.supervised_name = "supervised"
    assert streams_used(method, DOT.streams) == {"task": ["supervised"], "distillation": ["kd"]}
    student, teacher = networks()
    own = student.logits.square().sum()
    terms = method(Output(student.logits, {"supervised": own}), teacher, TARGET)
    torch.testing.assert_close(terms["supervised"], own)


def test_a_loss_of_ones_own_on_labels_is_the_task_too():
    used = streams_used(Method([Term(Focal()), *parse_method("kd").terms]), DOT.streams)
    assert used == {"task": ["ce", "focal"], "distillation": ["kd"]}


class InParts(nn.Module):
    def stream_rows(self, student_logits, teacher_logits):
        return {"one": student_logits.sum(1), "other": teacher_logits.sum(1), "target": 2 * student_logits.sum(1)}

    def forward(self, student_logits, teacher_logits):
        return torch.stack(list(self.stream_rows(student_logits, teacher_logits).values())).sum(0).mean()


def test_parts_without_a_stream_of_their_name_are_all_in_the_last():
    values, terms, _ = sorted_values(Method([Term(InParts())], ce=0), DeepKD.streams)
    torch.testing.assert_close(torch.stack(list(values.values())).sum(0), terms)
    student, teacher = networks()
    torch.testing.assert_close(values["non_target"][0], (student.logits + teacher.logits).sum(1).mean())


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("dkd", {"task": ["ce"], "target": ["dkd"], "non_target": ["dkd"]}),
        ("0*ce + kd", {"non_target": ["kd"]}),
        (
            "ce + standardized(dkd)",
            {"task": ["ce"], "target": ["standardized_dkd"], "non_target": ["standardized_dkd"]},
        ),
        ("ce + standardized(kd)", {"task": ["ce"], "non_target": ["standardized_kd"]}),
    ],
)
def test_with_three_streams_a_loss_in_parts_is_split_and_any_other_is_the_last(text, used):
    assert streams_used(parse_method(text), DeepKD.streams) == used
    values, _, _ = sorted_values(parse_method(text), DeepKD.streams, epoch=9)
    assert {stream for stream, row in values.items() if row.requires_grad} == set(used)


def test_a_term_that_is_not_computed_has_no_graph():
    values, _, _ = sorted_values(parse_method("0*ce + kd"), DOT.streams)
    assert not values["task"].requires_grad
    assert values["distillation"].requires_grad
