"""A network's own input format: its run's, its published one, or what the settings say."""

import pytest
import torch
from torch import nn

from stillroom.config import make_recipe
from stillroom.input_format import InputFormat
from stillroom.prepare.network_teacher import network_teacher
from stillroom.prepare.python_inputs import Inputs
from stillroom.prepare.teacher_entries import teacher_entries
from stillroom.trust import given
from tests.conftest import tiny_model


def built(data, teacher, module=None, classes=None, **settings):
    """The teacher and what was said about it."""
    recipe = make_recipe("distill", {"teacher": teacher, "student": "resnet8", "data": "tiny", **settings})
    (entry,), _, _ = teacher_entries(recipe, given=module is not None)
    said: list[str] = []
    found, _ = network_teacher(entry, classes, Inputs(module, trust=given([teacher])), data, said.append)
    return found, said


def test_a_module_takes_images_as_the_student_does(tiny_data):
    teacher, said = built(tiny_data, "mine", tiny_model())
    assert teacher.shares_input
    assert teacher.classes == tiny_data.train.classes
    assert said == []


def test_the_settings_change_its_input_and_are_said(tiny_data):
    own = {"teacher_image_size": 16, "teacher_mean": [0.1] * 3, "teacher_std": [0.9] * 3}
    teacher, said = built(tiny_data, "mine", tiny_model(), **own, teacher_interpolation="bilinear")
    assert teacher.input_format == InputFormat((0.1,) * 3, (0.9,) * 3, (16, 16), "bilinear")
    assert not teacher.shares_input
    assert "16x16 pixels (bilinear)" in said[0]


def test_efficientnet_lite0_comes_with_its_input_and_its_classes(tiny_data):
    teacher, said = built(tiny_data, "efficientnet-lite0", teacher_image_size=64)
    assert teacher.input_format == InputFormat((0.5,) * 3, (0.5,) * 3, (64, 64), "bicubic")
    assert teacher.class_count == 1000
    assert teacher.classes[0] == "n01440764"
    assert "64x64" in said[0]


def test_a_checkpoint_keeps_its_own_classes_and_the_published_input(tmp_path, tiny_data):
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=7)
    save_file(model.state_dict(), tmp_path / "own.safetensors")
    published = timm.data.resolve_model_data_config(model)
    teacher, _ = built(tiny_data, "timm:test_resnet", teacher_checkpoint=str(tmp_path / "own.safetensors"))
    assert teacher.class_count == 7
    assert teacher.classes is None
    assert teacher.input_format.size == published["input_size"][1:]
    assert teacher.input_format.mean == tuple(published["mean"])


def test_another_normalisation_than_the_published_one_is_said(tmp_path, tiny_data):
    own = {"teacher_image_size": 64, "teacher_mean": [0.1] * 3, "teacher_std": [0.9] * 3}
    _, said = built(tiny_data, "efficientnet-lite0", **own)
    assert any("were published for mean 0.5" in line for line in said)


def test_a_timm_module_with_another_configuration_gets_a_note(tiny_data):
    import timm

    _, said = built(tiny_data, "mine", timm.create_model("test_resnet", num_classes=4))
    assert any("pretrained configuration" in line and "teacher_mean" in line for line in said)


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_network_that_returns_probabilities(tiny_data, precision):
    model = nn.Sequential(tiny_model(), nn.Softmax(1))
    teacher, _ = built(tiny_data, "mine", model, teacher_output="probabilities", precision=precision)
    assert teacher.offers == "probabilities"


def test_logits_that_are_called_probabilities_are_refused(tiny_data):
    with pytest.raises(ValueError, match="teacher_output"):
        built(tiny_data, "mine", tiny_model(), teacher_output="probabilities")
