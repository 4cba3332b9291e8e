from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from stillroom.fingerprint import deep_copy, is_users_own, parts_of, tensors_digest
from stillroom.models import build_model


class Layer(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        self.factor, self.inner = factor, nn.Linear(2, 2)
        self.register_buffer("saved", torch.zeros(1))
        self.register_buffer("unsaved", torch.zeros(1), persistent=False)


class Net(nn.Module):
    def __init__(self, factor=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.layers = nn.Linear(2, 2), nn.ModuleList([Layer(), Layer(factor)])
        self.loose, self.mode = [nn.Linear(2, 2)], "a"


def changed(change):
    """The parts in which a network differs after a change."""
    one, other = Net(), Net()
    change(other)
    before, after = parts_of(one, "it", modes=True).parts, parts_of(other, "it", modes=True).parts
    return {name for name in {**before, **after} if before.get(name) != after.get(name)}


def halved(module):
    parametrize.register_parametrization(module.stem, "weight", nn.Identity())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda net: None, set()),
        (lambda net: net.stem.weight.data.add_(1), {"weights"}),
        (lambda net: net.layers[1].saved.add_(1), {"weights"}),
        (lambda net: net.layers[1].unsaved.add_(1), {"unsaved buffers"}),
        (lambda net: setattr(net.layers[1], "factor", 2.0), {"layers"}),
        (lambda net: net.stem.weight.requires_grad_(False), {"weights", "layers"}),
        (lambda net: net.layers[0].register_forward_hook(lambda *_: None), {"layers"}),
        (lambda net: net.register_forward_pre_hook(lambda *_: None), {"layers"}),
        (lambda net: setattr(net, "mode", "b"), {"attribute mode"}),
        (lambda net: net.loose[0].bias.data.add_(1), {"attribute loose"}),
        (lambda net: setattr(net, "forward", len), {"attribute forward"}),
        (lambda net: setattr(net.layers[0].inner, "weight", net.stem.weight), {"weights", "layers"}),
        (lambda net: net.eval(), {"attribute training", "layers"}),
        (halved, {"weights", "layers"}),
    ],
)
def test_each_change_is_in_the_part_it_belongs_to(change, parts):
    assert changed(change) == parts


def test_a_list_of_layers_is_another_in_another_order():
    def ordered(*places):
        net = Net()
        net.again = nn.Linear(2, 2)  # as it is, but another layer
        net.again.load_state_dict(net.stem.state_dict())
        net.order = [(net.stem, net.again)[place] for place in places]
        return parts_of(net, "it").parts["attribute order"]

    assert ordered(0, 1) == ordered(0, 1) != ordered(1, 0)


def test_short_attributes_are_recorded_as_they_are_and_long_ones_by_their_digest():
    net = Net()
    net.text = 100 * "x"
    parts = parts_of(net, "it").parts
    assert parts["attribute mode"] == "'a'"
    assert len(parts["attribute text"]) == 16
    assert "attribute training" not in parts


def test_a_compiled_module_is_the_one_inside():
    compiled = type("OptimizedModule", (nn.Module,), {"__module__": "torch._dynamo.eval_frame"})()
    compiled._orig_mod = net = Net()
    assert parts_of(compiled, "it") == parts_of(net, "it")


def test_installed_models_hold_nothing_that_cannot_be_compared():
    for name in ("resnet8", "timm:test_vit"):
        one, other = (build_model(name, num_classes=3, image_size=32) for _ in range(2))
        assert parts_of(one, "it", values=False) == parts_of(other, "it", values=False)
        assert parts_of(one, "it").opaque == ()
        assert not is_users_own(one)
    assert is_users_own(nn.Sequential(nn.Linear(1, 1), Layer()))


def test_what_cannot_be_compared_is_named_once_with_its_place_and_a_copy_shares_it():
    net = Net()
    net.layers[0].lock = net.lock = threading.Lock()
    assert parts_of(net, "student").opaque == ("student.layers.0.lock (lock)", "student.lock (lock)")
    twin = deep_copy(net)
    assert twin.lock is net.lock
    assert twin.stem is not net.stem
    assert torch.equal(twin.stem.weight, net.stem.weight)


def test_the_digest_of_tensors_changes_with_any_value_and_order():
    labels = torch.tensor([0, 1, 2])
    assert tensors_digest(labels) == tensors_digest(labels.clone())
    others = [labels.flip(0), labels.int(), labels.view(1, 3), torch.tensor([0, 1, 3])]
    assert len({tensors_digest(labels), *map(tensors_digest, others)}) == 5
