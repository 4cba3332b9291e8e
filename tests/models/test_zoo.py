import pickle
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stillroom.models import ZOO, FeatureTap, describe_models, stages_of

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
ONE_PER_FAMILY = ("resnet8", "wrn_16_1", "vgg8", "MobileNetV2", "ShuffleV1", "ShuffleV2", "ResNet18")


def _expand(keys):
    """x.* stands for a batch norm's five entries."""
    return [
        full
        for key in keys.split()
        for full in ([f"{key[:-1]}{entry}" for entry in NORM] if key.endswith(".*") else [key])
    ]


def _measure(model, size):
    """Parameters, multiply-accumulates and feature shapes, without memory."""
    with (
        torch.device("meta"),
        FeatureTap(model, model.stages) as tap,
        FlopCounterMode(display=False) as counter,
    ):
        model(torch.empty(1, 3, size, size))
        shapes = [list(feature.shape[1:]) for feature in tap.features()]
    return sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2, shapes


def _meta(name, *args):
    with torch.device("meta"):
        return ZOO[name](*args)


def test_zoo_has_every_measured_model(facts):
    assert set(ZOO) == set(facts["models"])
    assert len(ZOO) == 23


@pytest.mark.parametrize("name", ZOO)
def test_model_is_the_published_one(name, facts):
    fact = facts["models"][name]
    model = _meta(name, 100)
    assert list(model.state_dict()) == _expand(fact["keys"])
    assert _measure(model, 32) == (fact["params"], fact["macs"], fact["feat_shapes"])


def test_tiny_imagenet_resnet18_is_the_published_one(facts):
    fact = facts["tiny_imagenet_resnet18"]
    assert _measure(_meta("ResNet18", 200), 64) == (fact["params"], fact["macs"], fact["feat_shapes"])


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 33), (4, 64), (3, 8)])
def test_any_classes_channels_and_size(name, channels, size):
    model = _meta(name, 7, channels)
    assert model(torch.empty(2, channels, size, size, device="meta")).shape == (2, 7)


@pytest.mark.parametrize("name", ZOO)
def test_preactivation_shapes_are_those_of_the_features(name):
    model = _meta(name, 10)
    with FeatureTap(model, (*model.stages, *stages_of(model, preact=True))) as tap:
        model(torch.empty(1, 3, 32, 32, device="meta"))
        features = tap.features()
    half = len(model.stages)
    assert [f.shape for f in features[half:]] == [f.shape for f in features[:half]]
    assert features[-1].shape == (1, model.width)


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_gradient_reaches_every_parameter_through_features_and_logits(name):
    torch.manual_seed(0)
    model = ZOO[name](5)
    with FeatureTap(model, model.stages) as tap:
        logits = model(torch.randn(4, 3, 16, 16))
        loss = logits.square().sum() + sum(f.square().mean() for f in tap.features())
    loss.backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ONE_PER_FAMILY)
def test_tapped_features_survive_the_rest_of_the_pass(name):
    """No later layer writes into a feature, so taking it apart step by step gives the same tensor."""
    model = ZOO[name](5).eval()
    kept = []

    def keep(_module, _inputs, output):
        kept.append((output, output.clone()))

    stages = dict.fromkeys((*model.stages, *model.preact_stages))
    handles = [model.get_submodule(stage).register_forward_hook(keep) for stage in stages]
    with torch.no_grad():
        model(torch.randn(2, 3, 16, 16))
    for handle in handles:
        handle.remove()
    assert len(kept) == len(stages)
    for at_the_end, at_the_time in kept:
        assert torch.equal(at_the_end, at_the_time)


def test_same_seed_gives_the_same_model():
    states = []
    for _ in range(2):
        torch.manual_seed(11)
        states.append(ZOO["ShuffleV2"](10).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_model_travels_by_pickle():
    model = ZOO["resnet8"](10).eval()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(pickle.loads(pickle.dumps(model))(images), model(images))


def test_description_counts_parameters_and_leaves_random_state_alone(facts):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rows = describe_models()
    assert torch.equal(torch.get_rng_state(), before)
    assert [row.name for row in rows] == list(ZOO)
    assert {name: parameters for name, parameters, _ in rows} == {
        name: fact["params"] for name, fact in facts["models"].items()
    }
    families = {row.name: row.family for row in rows}
    assert families["wrn_40_2"] == "Wide ResNet"
    assert len(set(families.values())) == 7


def test_the_page_tells_the_measured_numbers(facts):
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    for name, fact in facts["models"].items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        assert row.endswith(f"| {fact['params']:,} | {fact['macs'] / 1e6:,.1f} |")
