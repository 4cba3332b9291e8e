"""What a method adds to its losses: weights, warm-ups, stages, names, and the list of what it needs."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from stillroom.batch import Mixture, Output
from stillroom.errors import InputError
from stillroom.losses import KD, MLKD
from stillroom.methods import Method, Term, parse_method


@pytest.fixture
def outputs():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Output(3 * torch.randn(6, 10, generator=generator)) for _ in range(2))
    return student, teacher, torch.arange(6)


class Staged(nn.Module):
    """A loss with an initial stage, of which it may be all there is."""

    def __init__(self, initial_epochs, final_epoch=None):
        super().__init__()
        self.initial_epochs, self.final_epoch = initial_epochs, final_epoch

    def forward(self, student_logits, teacher_logits, epoch):
        return student_logits.square().mean() + epoch


def test_warm_up_rises_linearly_and_stays(outputs):
    full = parse_method("dkd(warmup=0)")(*outputs)["dkd"]
    for epoch, share in ((1, 0.25), (3, 0.75), (4, 1.0), (9, 1.0)):
        torch.testing.assert_close(parse_method("dkd(warmup=4)")(*outputs, epoch)["dkd"], share * full)


def test_in_the_initial_stage_everything_else_rests(outputs):
    method = Method([Term(Staged(2), weight=3.0), Term(KD(), warmup=2)])
    student = outputs[0].logits.square().mean()
    kd = KD()(outputs[0].logits, outputs[1].logits)
    for epoch in (1, 2):
        terms = method(*outputs, epoch)
        assert terms["ce"] == 0
        assert terms["kd"] == 0
        torch.testing.assert_close(terms["staged"], student + epoch)  # its weight is for the main stage
    for epoch, share in ((3, 0.5), (4, 1.0)):  # warm-ups begin when the stage is over
        terms = method(*outputs, epoch)
        torch.testing.assert_close(terms["ce"], F.cross_entropy(outputs[0].logits, outputs[2]))
        torch.testing.assert_close(terms["kd"], share * kd)
        torch.testing.assert_close(terms["staged"], 3 * (student + epoch))


def test_a_loss_that_is_only_an_initial_stage_ends_and_lets_the_teacher_go(outputs):
    method = Method([Term(Staged(2, final_epoch=2))])
    assert [method.needs_teacher_in(epoch) for epoch in (1, 2, 3)] == [True, True, False]
    student, _, target = outputs
    terms = method(student, None, target, 3)
    assert terms["staged"] == 0
    assert terms["ce"] > 0
    with pytest.raises(InputError, match="every weight is zero"):
        Method([Term(Staged(2, final_epoch=2))], ce=0)


def test_a_shorter_initial_stage_waits_for_the_longest(outputs):
    method = Method([Term(Staged(1), name="short"), Term(Staged(3), name="long")])
    assert [float(method(*outputs, epoch)["short"]) > 0 for epoch in (1, 2, 3, 4)] == [True, False, False, True]


def test_an_initial_stage_has_to_end_within_the_run():
    method = Method([Term(Staged(5))])
    method.check(10, epochs=6)
    with pytest.raises(InputError, match=r"initial stage takes 5 of 5 epochs.*raise epochs"):
        method.check(10, epochs=5)


def test_with_two_views_the_labels_count_for_both(outputs):
    student, teacher, target = outputs
    strong = {"logits_strong": student.logits.flip(0)}
    method = Method([Term(MLKD())], ce=0.5)
    assert method.needs_strong
    assert not parse_method("kd").needs_strong
    terms = method(Output(student.logits, strong), Output(teacher.logits, strong), target)
    views = (student.logits, strong["logits_strong"])
    torch.testing.assert_close(terms["ce"], 0.5 * sum(F.cross_entropy(view, target) for view in views))


def test_what_a_method_needs_is_the_sum_of_its_losses():
    method = parse_method("at + crd + standardized(kd)")
    assert method.parts_of("student") == method.parts_of("teacher") == ("maps", "embedding")
    assert {"target", "ids", "student_logits"} & method.needs == {"ids", "student_logits"}
    assert "train_labels" in method.connect_needs
    assert parse_method("kd").parts_of("student") == ()


def test_a_loss_of_ones_own_says_what_it_needs_by_its_parameter_names(outputs):
    class Margin(nn.Module):
        def forward(self, student_logits, target):
            return student_logits.gather(1, target[:, None]).mean()

    method = Method([Term(Margin(), weight=2.0)], ce=0)
    assert not method.needs_teacher
    student, _, target = outputs
    torch.testing.assert_close(method(student, None, target)["margin"], 2 * student.logits[target, target].mean())

    class Strange(nn.Module):
        def forward(self, moon): ...

    class Builder(nn.Module):
        def connect(self, weather): ...
        def forward(self, student_logits): ...

    for loss, name in ((Strange(), "moon"), (Builder(), "weather")):
        with pytest.raises(InputError, match=name):
            Term(loss)


@pytest.mark.parametrize("text", ["dkd(warmup=0)", "standardized(nkd)", "ce + swap"])
def test_with_mixed_images_losses_that_read_labels_are_mixed(outputs, text):
    student, teacher, target = outputs
    mixture = Mixture((target + 3) % 10, torch.tensor([1.0, 0.9, 0.5, 0.3, 0.0, 0.6]))
    method = parse_method(text)
    (name,) = method.term_names[1:]
    found = method(student, teacher, target, mixture=mixture)
    expected = torch.zeros(2)
    for row in range(6):  # an explicit reference, image by image
        own = [Output(output.logits[row : row + 1]) for output in (student, teacher)]
        for labels, fraction in ((target, mixture.fraction[row]), (mixture.labels, 1 - mixture.fraction[row])):
            terms = method(*own, labels[row : row + 1])
            expected += fraction / 6 * torch.stack([terms["ce"], terms[name]])
    torch.testing.assert_close(torch.stack([found["ce"], found[name]]), expected)


def test_with_mixed_images_losses_that_read_no_labels_stay(outputs):
    mixture = Mixture((outputs[2] + 3) % 10, torch.full((6,), 0.4))
    method = parse_method("kd + dist")
    plain, mixed = method(*outputs), method(*outputs, mixture=mixture)
    assert torch.equal(plain["kd"], mixed["kd"])
    assert torch.equal(plain["dist"], mixed["dist"])
    assert not torch.equal(plain["ce"], mixed["ce"])


def test_class_weights_follow_the_method_but_are_no_part_of_its_state(outputs):
    method = parse_method("ce")
    plain = method(*outputs)["ce"]
    method.class_weights = torch.full((10,), 3.0)
    torch.testing.assert_close(method(*outputs)["ce"], 3 * plain)
    assert not method.state_dict()
    assert method.double().class_weights.dtype == torch.float64


def test_bad_weights_from_python_are_refused():
    with pytest.raises(InputError, match="ce=-1"):
        Method([Term(KD())], ce=-1)


def test_a_classifier_that_is_read_before_training_only_leaves_a_method_bankable():
    assert parse_method("kd + wkd_l").bankable
    assert not parse_method("catkd").bankable
    assert not parse_method("wkd_l + wkd_f").bankable
