"""Students with and without a wrapper, treated alike."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.models.demo_nets import small
from stillroom.models.reused_classifier import ReusedHead
from stillroom.models.student_wrapper import (
    remove_wrapper_hooks,
    rewrapped,
    unwrapped,
    unwrapped_state,
    wrapper_record,
)

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def wrapped():
    return ReusedHead(small(3), "layer3", 32, nn.Linear(64, 3), size=(2, 2))


def test_a_recorded_wrapper_is_built_again_and_takes_the_weights(wrapped):
    again = rewrapped(small(3), wrapper_record(wrapped), 3)
    again.load_state_dict(wrapped.state_dict())
    assert torch.equal(again.eval()(IMAGES), wrapped.eval()(IMAGES))
    assert wrapper_record(again) == wrapper_record(wrapped)


def test_a_wrapped_student_is_not_wrapped_twice(wrapped):
    assert rewrapped(wrapped, wrapper_record(wrapped), 3) is wrapped


def test_a_plain_student_stays_as_it_is():
    student = small(3)
    assert rewrapped(student, wrapper_record(student), 3) is student
    assert rewrapped(student, {}, 3) is student
    assert unwrapped(student) is student
    assert unwrapped_state(student.state_dict(), {}).keys() == student.state_dict().keys()
    remove_wrapper_hooks(student)


def test_the_users_student_and_its_weights_are_found_inside(wrapped):
    student = unwrapped(wrapped)
    assert student is wrapped.student
    state = unwrapped_state(wrapped.state_dict(), wrapper_record(wrapped))
    assert state.keys() == student.state_dict().keys()
    assert all(torch.equal(value, student.state_dict()[name]) for name, value in state.items())


def test_the_users_student_gets_rid_of_hooks_and_the_wrapper_still_works(wrapped):
    before = wrapped.eval()(IMAGES)
    remove_wrapper_hooks(wrapped)
    assert not any(module._forward_hooks for module in wrapped.student.modules())
    assert torch.equal(wrapped(IMAGES), before)
    assert not any(module._forward_hooks for module in wrapped.student.modules())
