"""What a loss declares: read with its type, and never silently a default because of a spelling."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom import losses
from stillroom.errors import InputError
from stillroom.losses.protocol import LossProperties, connect_needs_of, needs_of, properties_of, rows_of, settings_of
from stillroom.methods import PRESETS, Term


class Own(nn.Module):
    """A loss of a user's own."""

    def forward(self, student_logits, target):
        return student_logits.mean()


def declaring(name, value, *, on):
    """A loss with one more attribute, of its class or of the object."""
    if on == "class":
        return type("Own", (Own,), {name: value})()
    loss = Own()
    setattr(loss, name, value)
    return loss


on_either = pytest.mark.parametrize("on", ["class", "object"])


def test_a_plain_module_has_every_default():
    assert properties_of(Own()) == LossProperties(
        needs=None, per_sample=False, draws=False, initial_epochs=0, final_epoch=None, reuses_head=False,
        projector_factor=2, teacher_offer="logits",
    )  # fmt: skip


@on_either
@pytest.mark.parametrize(
    ("name", "value"),
    [("needs", ("student_logits",)), ("per_sample", True), ("draws", True), ("initial_epochs", 3), ("final_epoch", 5),
     ("reuses_head", True), ("projector_factor", 4), ("teacher_offer", "top-k")],
)  # fmt: skip
def test_a_declared_property_is_read(name, value, on):
    assert getattr(properties_of(declaring(name, value, on=on)), name) == value


@on_either
@pytest.mark.parametrize(
    ("written", "value", "meant"),
    [("inital_epochs", 3, "initial_epochs"), ("initial_epoch", 3, "initial_epochs"), ("final_epochs", 3, "final_epoch"),
     ("per_samples", True, "per_sample"), ("persample", True, "per_sample"), ("reuse_head", True, "reuses_head"),
     ("draw", True, "draws"), ("need", ("student_logits",), "needs"), ("projection_factor", 4, "projector_factor"),
     ("teacher_offers", "labels", "teacher_offer"), ("connects", lambda self, student_logits: self, "connect")],
)  # fmt: skip
def test_a_misspelt_property_is_refused_wherever_it_stands(written, value, meant, on):
    with pytest.raises(InputError, match=f"loss Own has an attribute {written}, .* did you mean {meant}"):
        Term(declaring(written, value, on=on))


@on_either
@pytest.mark.parametrize(
    ("name", "value"),
    [("per_sample", 1), ("draws", "yes"), ("initial_epochs", 3.0), ("initial_epochs", -1), ("initial_epochs", True),
     ("final_epoch", "last"), ("reuses_head", 2), ("projector_factor", 0), ("teacher_offer", "all"),
     ("teacher_offer", None), ("needs", "student_logits"),
     ("needs", ["student_logits"])],
)  # fmt: skip
def test_a_property_of_another_type_is_refused(name, value, on):
    with pytest.raises(InputError, match=f"loss Own has {name}=.*: it must be "):
        assert not hasattr(Term(declaring(name, value, on=on)).properties, name)


@on_either
@pytest.mark.parametrize(
    ("name", "value"),
    [("draw", 16), ("draw", lambda self, count: count), ("draw", 0.5), ("n_per_sample", 4), ("row", lambda self: 0),
     ("rowss", 3), ("need", 0.3), ("connected", lambda self: True), ("reconnect", lambda self: self), ("connector", 1),
     ("final_weight", 2.0), ("epochs", 3), ("per_sample_weight", True), ("head", True), ("factor", 2), ("_draw", True),
     ("_rows", lambda self: 0), ("per_samples", torch.tensor(True)), ("initial_epoch", nn.Linear(1, 1)),
     ("final_epochs", nn.Parameter(torch.zeros(3)))],
)  # fmt: skip
def test_an_attribute_that_merely_resembles_a_property_is_the_users_own(name, value, on):
    assert not hasattr(Term(declaring(name, value, on=on)).properties, name)


def test_a_compiled_loss_declares_what_it_declared():
    assert properties_of(torch.compile(losses.FT(initial_epochs=5))).initial_epochs == 5


def test_the_losses_that_come_along_spell_theirs():
    stages = {name for name, preset in PRESETS.items() if properties_of(preset.loss()).initial_epochs}
    assert stages == {"ab", "ft"}


def test_needs_are_the_parameter_names_unless_declared():
    assert needs_of(Own()) == ("student_logits", "target")
    assert needs_of(declaring("needs", ("student_maps",), on="object")) == ("student_maps",)
    assert connect_needs_of(Own()) == ()
    assert connect_needs_of(losses.CRD()) == ("student_embedding", "teacher_embedding", "train_labels")


def test_rows_are_found_where_there_are_any():
    assert rows_of(Own()) is None
    assert rows_of(losses.KD()) is not None


def test_settings_are_the_parameters_of_the_class():
    assert list(settings_of(losses.NKD)) == ["gamma", "temperature"]
    assert settings_of(Own) == {}


class Staged(Own):
    """A logit loss with a schedule that draws."""

    draws, per_sample, initial_epochs, final_epoch = True, True, 2, 9

    def forward(self, student_logits, teacher_logits):
        return student_logits.mean()

    def rows(self, student_logits, teacher_logits):
        return student_logits.mean(1)


@pytest.mark.parametrize("wrapper", [losses.Standardized, losses.SDD, losses.Foreground])
def test_a_wrapper_declares_what_the_loss_inside_declares(wrapper):
    inner, outer = properties_of(Staged()), properties_of(wrapper(Staged()))
    for name in ("draws", "per_sample", "initial_epochs", "final_epoch"):
        assert getattr(outer, name) == getattr(inner, name)
    with pytest.raises(ValueError, match="did you mean per_sample"):
        wrapper(type("Own", (Staged,), {"per_samples": True})())


def test_a_wrapped_loss_that_relates_samples_still_does():
    assert not properties_of(losses.Standardized(losses.DIST())).per_sample
    assert properties_of(losses.Standardized(losses.KD())).per_sample
