import logging
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.ops import FrozenBatchNorm2d

from stillroom.errors import InputError
from stillroom.models import demo_detectors, save_weights
from stillroom.models.classifier_head import head_classes
from stillroom.models.detector_architectures import BUILDERS
from stillroom.models.detectors import (
    _choose_rows,
    _fold_epsilon,
    build_detector,
    check_two_stage,
    describe_detectors,
)
from stillroom.trust import NOTHING, UntrustedError

OWN = "stillroom.models.demo_detectors:small_detector"


@pytest.fixture(scope="module")
def three():
    """A detector for the classes a, b and c."""
    torch.manual_seed(1)
    return build_detector(OWN, "abc")


def test_a_function_is_called_with_the_classes_and_background(three):
    assert isinstance(three, FasterRCNN)
    assert three.roi_heads.box_predictor.cls_score.out_features == 4
    assert three.roi_heads.box_predictor.bbox_pred.out_features == 16
    assert head_classes(three) == 4


def test_a_module_is_returned_as_it_is_and_must_fit_the_classes(three):
    assert build_detector(three, "abc") is three
    with pytest.raises(InputError, match="FasterRCNN has 4 region logits; 2 classes and background require 3"):
        build_detector(three, "ab")


@pytest.mark.parametrize("name", [*describe_detectors(), "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_every_name_builds_a_two_stage_detector_that_is_trained_whole(name):
    with torch.device("meta"):
        model = build_detector(name, "ab")
    check_two_stage(model)
    assert head_classes(model) == 3
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in model.modules())


def test_names_are_described():
    assert set(describe_detectors()) == set(BUILDERS)
    assert "MobileNetV2" in describe_detectors()["fasterrcnn_mobilenetv2_fpn"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fasterrcnn_resnet18", "no detector 'fasterrcnn_resnet18'; did you mean fasterrcnn_resnet18_fpn"),
        ("resnet20", "no detector 'resnet20'; known are fasterrcnn_resnet18_fpn"),
        ("timm:resnet18", "no detector 'timm:resnet18'"),
        ("torchvision:retinanet_resnet50_fpn", "is a one-stage detector"),
        ("fcos_resnet50_fpn", "is a one-stage detector"),
        ("torchvision:maskrcnn_resnet50_fpn", "finds more than boxes"),
        ("torchvision:fasterrcnn_resnet18_fpn", "did you mean fasterrcnn_resnet18_fpn"),
    ],
)
def test_other_names_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        build_detector(name, "ab")


def test_models_that_are_no_two_stage_detector_are_refused_by_what_they_lack():
    with pytest.raises(InputError, match=r"Linear is not a two-stage detector: it has no backbone, rpn, roi_heads"):
        build_detector(nn.Linear(2, 2), "a")
    headless = demo_detectors.small_detector(2)
    del headless.roi_heads.box_head
    with pytest.raises(InputError, match=r"FasterRCNN is not .* it has no roi_heads\.box_head; give"):
        check_two_stage(headless)
    backbone = demo_detectors.small_detector(2).backbone
    with pytest.raises(InputError, match="MaskRCNN has a mask head, and only boxes are trained"):
        check_two_stage(MaskRCNN(backbone, 2))


def test_settings_that_contradict_are_refused(tmp_path, three):
    with pytest.raises(InputError, match="no classes"):
        build_detector(OWN, "")
    with pytest.raises(InputError, match="no published weights for stillroom"):
        build_detector(OWN, "ab", pretrained=True)
    with pytest.raises(InputError, match="no published weights for FasterRCNN"):
        build_detector(three, "abc", pretrained=True)
    with pytest.raises(InputError, match="give one of them"):
        build_detector("fasterrcnn_resnet18_fpn", "ab", pretrained=True, checkpoint=tmp_path / "x")


def test_backbone_weights_that_cannot_be_fetched_name_the_way_out(monkeypatch):
    def offline(*_):
        raise URLError("Name or service not known")

    monkeypatch.setitem(BUILDERS, "fasterrcnn_resnet18_fpn", ("", offline))
    with pytest.raises(
        InputError, match=r"backbone of fasterrcnn_resnet18_fpn .*not known.*copy their file to .*/check"
    ):
        build_detector("fasterrcnn_resnet18_fpn", "ab", pretrained=True)


def test_published_weights_named_in_an_untrusted_file_are_not_downloaded():
    name = "torchvision:fasterrcnn_resnet50_fpn"
    with pytest.raises(UntrustedError, match="Nothing was downloaded"):
        build_detector(name, "ab", pretrained=True, origin=NOTHING.of(name))


def test_weights_are_loaded_from_a_file(tmp_path, three):
    save_weights(three, tmp_path / "x.safetensors")
    found = build_detector(OWN, "abc", checkpoint=tmp_path / "x.safetensors")
    torch.testing.assert_close(found.state_dict(), three.state_dict())


def test_a_file_for_other_classes_requires_new_last_layers(tmp_path, three):
    file = tmp_path / "x.safetensors"
    save_weights(three, file)
    message = "3 classes without background, the data 2; give a checkpoint for 2, or new_head=true"
    with pytest.raises(InputError, match=message):
        build_detector(OWN, "ab", checkpoint=file)
    found = build_detector(OWN, "ab", checkpoint=file, new_head=True)
    assert found.roi_heads.box_predictor.bbox_pred.out_features == 12
    torch.testing.assert_close(found.rpn.state_dict(), three.rpn.state_dict())


def test_norms_are_frozen_where_a_file_has_frozen_ones(tmp_path):
    file = tmp_path / "x.safetensors"
    name = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"
    plain = build_detector(name, "ab")
    state = {key: value for key, value in plain.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, file)
    found = build_detector(name, "ab", checkpoint=file)
    norms = [type(module) for module in found.modules() if "BatchNorm" in type(module).__name__]
    assert set(norms) == {FrozenBatchNorm2d}
    assert not found.backbone.body["0"][0].weight.requires_grad
    assert found.backbone.body["13"].block[0][0].weight.requires_grad
    save_weights(plain, file)
    trained = build_detector(name, "ab", checkpoint=file)
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in trained.modules())


def test_published_last_layers_are_reduced_to_the_classes_by_name(caplog):
    model = demo_detectors.small_detector(4)
    before = {name: layer.weight.clone() for name, layer in model.roi_heads.box_predictor.named_children()}
    _choose_rows(model, ["__background__", "cat", "dog", "cow"], ["cow", "cat"], "x")
    after = model.roi_heads.box_predictor
    assert torch.equal(after.cls_score.weight, before["cls_score"][[0, 3, 1]])
    assert torch.equal(after.bbox_pred.weight, before["bbox_pred"][[0, 1, 2, 3, 12, 13, 14, 15, 4, 5, 6, 7]])
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        _choose_rows(model, ["__background__", "cow", "cat"], ["cow", "emu"], "x")
    assert "does not know the class emu: its last layers are new" in caplog.text
    assert head_classes(model) == 3
    assert not torch.equal(model.roi_heads.box_predictor.cls_score.weight[:2], before["cls_score"][[0, 3]])


def test_a_detector_that_is_not_trained_must_know_every_class():
    model = BUILDERS["fasterrcnn_resnet18_fpn"][1](4, None)
    with pytest.raises(InputError, match="does not know the class 'emu', and it is not trained here"):
        _choose_rows(model, ["__background__", "cow", "cat"], ["cow", "emu"], "x", whole=True)
    with pytest.raises(InputError, match="published weights for its backbone only"):
        build_detector("fasterrcnn_resnet18_fpn", ["a"], pretrained=True, new_head=None)


def test_the_categories_of_torchvision_begin_with_background():
    weights = detection.FasterRCNN_ResNet50_FPN_Weights.DEFAULT
    assert weights.meta["categories"][:2] == ["__background__", "person"]


def test_another_epsilon_is_folded_into_the_variance():
    norm = FrozenBatchNorm2d(3, eps=0.0)
    norm.running_var.copy_(torch.tensor([0.5, 1.0, 2.0]))
    images = torch.randn(2, 3, 4, 4)
    expected = norm(images)
    _fold_epsilon(norm)
    assert norm.eps == 1e-5
    torch.testing.assert_close(norm(images), expected)
