"""Every method on a tiny detector: it trains a step, or one error says why it cannot."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.losses.feature.reviewkd import PyramidReviewKD
from stillroom.losses.protocol import needs_of
from stillroom.methods import PRESETS, WRAPPERS
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.set_up_detection import set_up_detection
from tests.boxed_data import boxed_data
from tests.tasks.tiny_detector import tiny_detector

REFUSED = {
    "mlkd": "student_logits_strong",
    "crld": "student_logits_strong",
    "wkd_l": "teacher_head",
    "crd": "ids",
    "simkd": "teacher_head",
    "catkd": "student_final_map",
    "sdd(kd)": "student_final_map",
    "ofa": "maps, which have a row for each image, together with predictions",
    "uskd": "maps, which have a row for each image, together with predictions",
}

WRAPPED = ("standardized(kd)", "standardized(dkd)", "foreground(kd)", "foreground(dkd)", "foreground(ldrld(depth=2))")
SETTINGS = {"ldrld": "ldrld(depth=2)", "ft": "ft(initial_epochs=1)"}
BF16 = ("kd", "ldrld(depth=2)", "dkd", "at", "fitnet", "reviewkd", "rkd", "foreground(dkd)")
EPOCH = 30  # after every warm-up, and in the initial stage of AB, which has no other


@cache
def data():
    return boxed_data(train=4, val=2)


def detector(seed=0):
    model = tiny_detector(classes=2)
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def set_up(method, student=None, teacher=None, **settings):
    given = {"teacher": "t", "student": "s", "data": "d", "method": method, "epochs": 40, "batch_size": 4, **settings}
    models = {"teacher": teacher or detector(1), "student": student or detector(2)}
    return set_up_detection(make_recipe("distill", given), Inputs(**models, data=data()), data())


def losses_of(setup, precision="32"):
    """The terms of one training step of all images."""
    batch = next(
        setup.data.train.loader(batch_size=4, input_format=setup.data.input_format, shuffle=False, seed=0).epoch(0)
    )
    student, task = setup.joint.student.train(), setup.task
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        made = task.student_output(student, None, batch, (0, EPOCH))
        taught = task.on_same_rows(setup.teacher.members[0].raw.predict(batch), made)
    return setup.method(made, taught, task.target(batch, made), EPOCH)


def slopes(setup, loss):
    wanted = [*setup.joint.student.parameters()]
    found = torch.autograd.grad(loss, wanted, allow_unused=True)
    return [slope for slope in found if slope is not None]


def check_step(text, precision):
    setup = set_up(f"supervised + {text}")
    terms = losses_of(setup, precision)
    (name,) = terms.keys() - {"supervised"}
    assert all(torch.isfinite(value) for value in terms.values())
    of_term = slopes(setup, terms[name])
    assert all(torch.isfinite(slope).all() for slope in of_term)
    assert any(slope.any() for slope in of_term), "the loss teaches nothing"


@pytest.mark.parametrize("name", [name for name in (*PRESETS, *WRAPPED) if name not in REFUSED])
def test_a_method_teaches_a_detector(name):
    check_step(SETTINGS.get(name, name), "32")


@pytest.mark.parametrize("text", BF16)
def test_a_method_teaches_a_detector_in_bf16(text):
    check_step(text, "bf16")


@pytest.mark.parametrize(("text", "reads"), REFUSED.items())
def test_a_method_that_does_not_fit_is_refused_in_one_sentence(text, reads):
    with pytest.raises(InputError, match=f"reads {reads}".replace("(", r"\(")):
        set_up(text)


def test_every_wrapper_is_tried():
    assert {name.partition("(")[0] for name in (*WRAPPED, *REFUSED) if "(" in name} == {*WRAPPERS}


@pytest.mark.parametrize("supervised", ["ce", "supervised"])
def test_the_loss_on_labels_has_two_names_and_the_weight_that_is_written(supervised):
    once, twice = (losses_of(set_up(f"{weight}*{supervised} + kd"))["supervised"] for weight in (1, 2))
    torch.testing.assert_close(twice, 2 * once)


def test_reviewkd_distils_the_levels_of_the_pyramid_alone():
    setup = set_up("ldrld(depth=2) + 3*reviewkd(mid_channels=4, warmup=0)")
    loss = setup.method.terms[1].loss
    assert (type(loss), loss.mid_channels, len(loss.fusions)) == (PyramidReviewKD, 4, 2)
    assert setup.method.terms[1].weight == 3
    assert losses_of(setup).keys() == {"supervised", "ldrld", "reviewkd"}


def test_a_pyramid_with_another_number_of_levels_is_refused_in_one_sentence():
    teacher = detector(1)
    teacher.backbone.forward = lambda images: OrderedDict([("0", teacher.backbone.stem(images))])
    with pytest.raises(InputError, match="levels: give as many maps of both"):
        set_up("at", teacher=teacher)


def test_without_background_the_regions_without_objects_teach_nothing():
    setup = set_up("foreground(dkd(warmup=0))")
    batch = next(setup.data.train.loader(batch_size=4, input_format=setup.data.input_format, shuffle=False).epoch(0))
    made = setup.task.student_output(setup.joint.student.train(), None, batch, (0, 1))
    taught = setup.task.on_same_rows(setup.teacher.members[0].raw.predict(batch), made)
    target = setup.task.target(batch, made)
    term = setup.method(made, taught, target, 1)["foreground_dkd"]
    (slope,) = torch.autograd.grad(term, made.logits)
    assert slope[target > 0].any()
    assert not slope[target == 0].any()
    assert not slope[:, 0].any()


ON_LOGITS = ("kd", "dkd", "nkd", "rld", "wsld", "pld", "swap", "dist", "ttm", "normkd", "luminet", "abkd", "ldrld")


@pytest.mark.parametrize("name", ON_LOGITS)
def test_published_settings_mean_the_same_where_background_is_the_last_class(name):
    torch.manual_seed(0)
    student, teacher, target = torch.randn(9, 8), torch.randn(9, 8), torch.arange(9) % 8
    loss, last = PRESETS[name].loss(), (torch.roll(student, -1, 1), torch.roll(teacher, -1, 1), (target - 1) % 8)
    needs = ("student_logits", "teacher_logits", "target")
    ours, theirs = (
        loss(**{need: dict(zip(needs, given, strict=True))[need] for need in needs_of(loss)})
        for given in ((student, teacher, target), last)
    )
    torch.testing.assert_close(ours, theirs)
