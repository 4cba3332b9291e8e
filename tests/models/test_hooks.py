import copy
import pickle
import weakref

import pytest
import torch
from torch import nn

from stillroom.batch import Output
from stillroom.errors import InputError
from stillroom.models import ZOO, FeatureTap, Tapped, build_model, stages_of

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def resnet():
    torch.manual_seed(0)
    return ZOO["resnet8"](10).eval()


def _by_hand(model):
    """The resnet's features, one module after the other."""
    first = torch.relu(model.bn1(model.conv1(IMAGES)))
    second = model.layer1(first)
    third = model.layer2(second)
    fourth = model.layer3(third)
    return first, second, third, fourth, fourth.mean(dim=(2, 3))


def test_features_are_the_stages_in_the_order_asked_for(resnet):
    expected = dict(zip(resnet.stages, _by_hand(resnet), strict=True))
    names = ("flatten", "layer2", "relu", "layer2")
    output = Tapped(resnet, names)(IMAGES)
    assert isinstance(output, Output)
    torch.testing.assert_close(output.logits, resnet(IMAGES))
    for name, feature in zip(names, output.features, strict=True):
        torch.testing.assert_close(feature, expected[name])


def test_without_names_there_are_no_features_and_no_hooks(resnet):
    output = Tapped(resnet)(IMAGES)
    assert output.features == ()
    assert not resnet._forward_pre_hooks


def test_what_a_later_layer_overwrites_in_place_is_kept():
    norm = nn.BatchNorm1d(8)
    model = nn.Sequential(nn.Linear(4, 8), norm, nn.ReLU(inplace=True), nn.Linear(8, 2)).eval()
    inputs = torch.randn(5, 4)
    with torch.inference_mode():
        (feature,) = Tapped(model, ["1"])(inputs).features
        expected = norm(model[0](inputs))
    assert expected.min() < 0
    torch.testing.assert_close(feature, expected)


def test_gradient_flows_back_through_a_feature(resnet):
    _, feature = Tapped(resnet, ["relu", "layer2"])(IMAGES).features
    feature.sum().backward()
    assert resnet.conv1.weight.grad.abs().max() > 0
    assert resnet.fc.weight.grad is None


def test_each_pass_replaces_the_last_and_both_keep_their_graphs(resnet):
    tapped = Tapped(resnet, ["layer1"])
    first = tapped(IMAGES)
    second = tapped(IMAGES * 2)
    torch.testing.assert_close(tapped(IMAGES).features[0], first.features[0])
    assert not torch.equal(first.features[0], second.features[0])
    (first.features[0].sum() + second.features[0].sum()).backward()


def test_two_taps_on_one_model_do_not_disturb_each_other(resnet):
    outer, inner = Tapped(resnet, ["layer1"]), Tapped(resnet, ["layer3"])
    assert outer(IMAGES).features[0].shape[1] == 16
    inner.close()
    assert outer(IMAGES).features[0].shape[1] == 16


def test_a_copy_of_the_model_does_not_speak_for_it(resnet):
    tap = FeatureTap(resnet, ["layer1"])
    average = copy.deepcopy(resnet)
    resnet(IMAGES)
    (mine,) = tap.features()
    average(torch.zeros_like(IMAGES))
    assert tap.features()[0] is mine


class Branching(nn.Module):
    """Uses its second layer only for large inputs, and its first one twice."""

    def __init__(self):
        super().__init__()
        self.often = nn.Linear(4, 4)
        self.seldom = nn.Linear(4, 4)

    def forward(self, inputs):
        hidden = self.often(self.often(inputs))
        return self.seldom(hidden) if inputs.max() > 10 else hidden


def test_a_pass_that_skips_a_module_leaves_no_stale_feature():
    model = Branching()
    tap = FeatureTap(model, ["seldom"])
    with pytest.raises(InputError, match=r"seldom.*run the model first"):
        tap.features()
    model(torch.full((1, 4), 11.0))
    assert tap.features()[0].shape == (1, 4)
    model(torch.zeros(1, 4))
    with pytest.raises(InputError, match="seldom"):
        tap.features()


def test_a_module_that_runs_twice_gives_its_last_output():
    model = Branching()
    output = Tapped(model, ["often"])(torch.zeros(1, 4))
    assert torch.equal(output.features[0], output.logits)


def test_close_takes_every_trace_away(resnet):
    state = list(resnet.state_dict())
    with FeatureTap(resnet, resnet.stages) as tap:
        assert any(module._forward_hooks for module in resnet.modules())
        assert list(resnet.state_dict()) == state
    tap.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in resnet.modules())
    revived = pickle.loads(pickle.dumps(resnet))
    assert torch.equal(revived(IMAGES), resnet(IMAGES))


def test_unknown_name_lists_the_nearest_and_leaves_no_hook(resnet):
    with pytest.raises(InputError, match=r"ResNet has no submodule 'layer9'.*layer1"):
        FeatureTap(resnet, ["relu", "layer9"])
    assert not resnet.relu._forward_hooks
    with pytest.raises(InputError, match="no submodule ''"):
        FeatureTap(resnet, [""])


class Speaking(nn.Module):
    """Holds a layer that answers with several things and one that answers with no tensor."""

    def __init__(self):
        super().__init__()
        self.recurrent = nn.LSTM(4, 3)
        self.talker = Talker()

    def forward(self, inputs):
        return self.talker(self.recurrent(inputs)[0])["said"]


class Talker(nn.Module):
    def forward(self, inputs):
        return {"said": inputs}


def test_of_several_outputs_the_first_is_the_feature_and_none_is_refused():
    model, inputs = Speaking(), torch.zeros(5, 2, 4)
    output = Tapped(model, ["recurrent"])(inputs)
    assert torch.equal(output.features[0], output.logits)
    with FeatureTap(model, ["talker"]), pytest.raises(InputError, match=r"talker returned a dict"):
        model(inputs)


def test_features_do_not_outlive_the_output(resnet):
    tapped = Tapped(resnet, ["layer1"])
    output = tapped(IMAGES)
    feature = weakref.ref(output.features[0])
    assert feature() is not None
    del output
    assert feature() is None


class Wrapper(nn.Module):
    """What DistributedDataParallel looks like from outside."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, images):
        return self.module(images)


def test_names_need_no_prefix_inside_wrappers(resnet):
    expected = Tapped(resnet, resnet.stages)(IMAGES).features
    for wrapped in (Wrapper(resnet), Wrapper(Wrapper(resnet)), torch.compile(resnet, backend="eager")):
        assert stages_of(wrapped) == resnet.stages
        tapped = Tapped(wrapped, stages_of(wrapped))
        with torch.no_grad():
            for mine, theirs in zip(tapped(IMAGES).features, expected, strict=True):
                torch.testing.assert_close(mine, theirs)
        tapped.close()


def test_pooled_maps_come_as_vectors():
    model = build_model("torchvision:resnet18", num_classes=4)
    pooled, last = Tapped(model, ["avgpool", "layer4"])(IMAGES).features
    assert pooled.shape == (2, 512)
    assert last.shape == (2, 512, 1, 1)
    assert stages_of(model) == ()


def test_timm_models_know_their_own_stages():
    model = build_model("timm:test_resnet", num_classes=4).eval()
    names = stages_of(model)
    assert len(names) >= 4
    assert stages_of(model, preact=True) == ()
    with torch.no_grad():
        features = Tapped(model, names)(IMAGES).features
        maps = model.forward_intermediates(IMAGES, intermediates_only=True)
    for feature, expected in zip(features, maps, strict=True):
        torch.testing.assert_close(feature, expected)
