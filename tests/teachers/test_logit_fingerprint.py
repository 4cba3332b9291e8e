from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.teachers.logit_fingerprint import difference, probe
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model
from tests.engine.test_loop import run


def asked(model, data):
    """A network as a teacher that takes images as the student does."""
    return TorchTeacher(model, input_format=data.input_format, shares_input=True, class_count=4)


class Session:
    """Like a session of a compiled network: neither its contents nor its file can be seen, and it has an address."""

    def __init__(self, factor):
        self._held = (
            threading.Lock(),
            lambda images: factor * images.mean((2, 3)) @ torch.linspace(-1, 1, 12).view(3, 4),
        )
        self.lock = self._held[0]

    def run(self, images):
        return self._held[1](images)

    def __reduce_ex__(self, protocol):
        raise TypeError("cannot be pickled")


class Wrapped(nn.Module):
    """A teacher of one's own, with all that a state dict and a repr do not show."""

    def __init__(self, factor=1.0, buffer=1.0, session=None):
        super().__init__()
        torch.manual_seed(5)
        self.inner, self.session, self.factor, self.anything = tiny_model(width=16), session, factor, object()
        self.register_buffer("scale", torch.tensor(buffer), persistent=False)

    def forward(self, images):
        logits = self.inner(images) if self.session is None else self.session.run(images)
        return self.factor * self.scale * logits


class Edited(Wrapped):
    def forward(self, images):
        return 30 * super().forward(images)


Edited.__name__, Edited.__qualname__ = "Wrapped", "Wrapped"


@pytest.mark.parametrize("other", [lambda: Wrapped(30.0), lambda: Wrapped(buffer=30.0), Edited])
def test_teachers_that_only_their_code_or_attributes_tell_apart_share_no_logits(tmp_path, tiny_data, other):
    bank = {"bank": str(tmp_path / "bank"), "epochs": 1, "teacher_identity": "mine"}
    run(tmp_path, tiny_data, Wrapped(), "kd", name="one", **bank)
    _, live = run(tmp_path, tiny_data, other(), "kd", name="live", epochs=1)
    _, banked = run(tmp_path, tiny_data, other(), "kd", name="banked", **bank)
    assert banked.summary()["teacher"]["loss"] == pytest.approx(live.summary()["teacher"]["loss"], rel=1e-2)
    assert len(list((tmp_path / "bank").iterdir())) == 2
    with pytest.raises(InputError, match=r"teacher(: |_bank).*name="):
        run(tmp_path, tiny_data, other(), "kd", name="one", **bank)


def test_teachers_whose_contents_nobody_sees_are_told_apart_by_what_they_say(tmp_path, tiny_data):
    bank = {"bank": str(tmp_path / "bank"), "epochs": 1, "teacher_identity": "mine"}
    run(tmp_path, tiny_data, Wrapped(session=Session(1)), "kd", name="one", **bank)
    run(tmp_path, tiny_data, Wrapped(session=Session(1)), "kd", name="two", **bank)
    assert len(list((tmp_path / "bank").iterdir())) == 1
    with pytest.raises(InputError, match=r"made with another teacher \(its outputs on 8 training images.*name="):
        run(tmp_path, tiny_data, Wrapped(session=Session(2)), "kd", name="one", **bank)
    with pytest.raises(InputError, match=r"holds the logits of another teacher.*bank="):
        run(tmp_path, tiny_data, Wrapped(session=Session(2)), "kd", name="three", **bank)


def test_a_teacher_whose_contents_nobody_sees_needs_an_identity_for_a_bank(tmp_path, tiny_data):
    bank = {"bank": str(tmp_path / "bank"), "epochs": 1}
    with pytest.raises(InputError, match=r"bank=: the teacher holds .*Session.*teacher_identity=TEXT"):
        run(tmp_path, tiny_data, Wrapped(session=Session(1)), "kd", **bank)
    for name in ("first", "second"):
        given = {"name": name, "teacher_identity": name}
        run(tmp_path, tiny_data, Wrapped(session=Session(1)), "kd", **bank, **given)
    assert len(list((tmp_path / "bank").iterdir())) == 2


def test_an_address_in_a_teacher_does_not_keep_a_run_from_going_on(tmp_path, tiny_data):
    bank = {"bank": str(tmp_path / "bank"), "teacher_identity": "mine"}
    for _ in range(2):  # each time with new objects at new addresses
        _, record = run(tmp_path, tiny_data, Wrapped(), "kd", epochs=1, **bank)
    assert record.finished


def test_rounding_on_another_processor_is_no_other_teacher_and_another_factor_is(tiny_data):
    teacher = tiny_model(width=16)
    said = probe(asked(teacher, tiny_data), tiny_data)
    assert teacher.training
    assert probe(asked(teacher, tiny_data), tiny_data) == said
    assert difference(said, probe(asked(teacher.bfloat16().float(), tiny_data), tiny_data)) == ""
    assert "differ by up to" in difference(said, [[1.1 * value for value in row] for row in said])
    one_class = tiny_model(width=16)
    one_class.load_state_dict(teacher.state_dict())
    with torch.no_grad():
        one_class[6].bias[2] += 1
    assert difference(said, probe(asked(one_class, tiny_data), tiny_data))


@pytest.mark.parametrize("there", [None, [], [[1.0]], "x", [[None]], {"a": 1}])
def test_a_damaged_probe_is_a_difference(there):
    assert difference(there, [[1.0, 2.0]])
