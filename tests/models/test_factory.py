import sys

import pytest

from stillroom.errors import InputError
from stillroom.models import build_model

SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes, in_channels=3):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_channels, num_classes))

    @classmethod
    def grey(cls, num_classes):
        return cls(num_classes, 1)

def classes_only(num_classes):
    return Net(num_classes)

def anything(**options):
    return Net(**options)

def broken(num_classes):
    raise RuntimeError("no such luck\\nat all")

def number(num_classes):
    return num_classes

constant = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the working directory, which is not on the import path."""
    (tmp_path / "own_nets_for_test.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "own_nets_for_test"
    sys.modules.pop("own_nets_for_test", None)


@pytest.mark.parametrize(
    ("function", "channels", "takes"),
    [("Net", 4, 4), ("classes_only", 3, 3), ("anything", 4, 4), ("Net.grey", 1, 1)],
)
def test_functions_get_the_arguments_they_take(function, channels, takes, module):
    model = build_model(f"{module}:{function}", num_classes=7, in_channels=channels, image_size=8)
    assert (model[2].in_features, model[2].out_features) == (takes, 7)


def test_a_function_without_channels_is_caught_by_the_probe(module):
    with pytest.raises(InputError, match=r"\(2, 5, 8, 8\)"):
        build_model(f"{module}:classes_only", num_classes=7, in_channels=5, image_size=8)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}:broken", "called with num_classes=7 fails: RuntimeError: no such luck$"),
        ("{}:number", "returned a int; it must return a torch.nn.Module"),
        ("{}:constant", "is a int, not a function"),
        ("{}:classes_onyl", "no function 'classes_onyl'; did you mean classes_only"),
        ("nowhere_to_be_found:f", "cannot be imported: ModuleNotFoundError.*nowhere_to_be_found"),
        ("{}:", "package.module:function"),
        (":f", "package.module:function"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(spec, message, module):
    with pytest.raises(InputError, match=message) as caught:
        build_model(spec.format(module), num_classes=7)
    assert "\n" not in str(caught.value)
