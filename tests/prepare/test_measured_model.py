"""The model of an evaluation."""

from __future__ import annotations

from stillroom.prepare.measured_model import MeasuredModel
from stillroom.trust import NOTHING
from tests.conftest import tiny_model


def test_a_module_is_measured_as_it_is_and_has_no_name(tiny_data):
    model = tiny_model()
    measured = MeasuredModel(model, None, pretrained=False, trust=NOTHING)
    assert (measured.name, measured.module) == ("", model)
    assert measured.build(tiny_data) is model


def test_a_name_is_built_for_the_classes_of_the_data(tiny_data):
    measured = MeasuredModel("resnet8", None, pretrained=False, trust=NOTHING)
    assert (measured.name, measured.module) == ("resnet8", None)
    assert measured.build(tiny_data).fc.out_features == 4
