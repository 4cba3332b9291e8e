import os

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_model
from torch import nn

from stillroom.errors import InputError
from stillroom.models import ZOO, build_model, classes_of_checkpoint, load_weights, save_weights


@pytest.fixture
def trained():
    """A small model whose every tensor differs from a fresh one's."""
    torch.manual_seed(7)
    model = ZOO["resnet8"](10)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.num_batches_tracked.fill_(5)
    return model


def _same(left, right):
    theirs = right.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in left.state_dict().items())


def _nested(state, kind):
    return {
        "plain": lambda: state,
        "repdistiller": lambda: {
            "epoch": 240,
            "model": state,
            "best_acc": np.float64(72.5),
            "optimizer": {"state": {}, "param_groups": [{"lr": 0.05, "params": [0]}]},
        },
        "mdistiller": lambda: {"model": state, "best_acc": torch.tensor(72.5)},
        "lightning": lambda: {"state_dict": state, "global_step": np.int64(3), "lr": np.float32(0.1)},
        "data parallel": lambda: {"model": {f"module.{name}": value for name, value in state.items()}},
        "compiled": lambda: {f"_orig_mod.{name}": value for name, value in state.items()},
        "both": lambda: {f"module._orig_mod.{name}": value for name, value in state.items()},
    }[kind]()


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize(
    "kind",
    ["plain", "repdistiller", "mdistiller", "lightning", "data parallel", "compiled", "both"],
)
def test_every_shape_of_torch_checkpoint_loads(kind, legacy, trained, tmp_path):
    path = tmp_path / "teacher.pth"
    torch.save(_nested(trained.state_dict(), kind), path, _use_new_zipfile_serialization=not legacy)
    fresh = ZOO["resnet8"](10)
    assert not _same(fresh, trained)
    load_weights(fresh, path)
    assert _same(fresh, trained)


def test_weights_and_metadata_survive_a_round_trip(trained, tmp_path):
    path = tmp_path / "new" / "student.safetensors"
    save_weights(trained, path, {"accuracy": "0.71", "classes": "10"})
    fresh = ZOO["resnet8"](10)
    load_weights(fresh, path)
    assert _same(fresh, trained)
    with safe_open(path, "pt") as file:
        assert sorted(file.keys()) == sorted(trained.state_dict())
        assert file.metadata()["accuracy"] == "0.71"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_channels_last_and_half_precision_weights_survive(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    shaped = trained.to(memory_format=torch.channels_last).half()
    save_weights(shaped, path, {})
    fresh = ZOO["resnet8"](10).half()
    load_weights(fresh, path)
    assert _same(fresh, shaped)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight


def test_tied_weights_keep_their_names_and_their_bond(tmp_path):
    model, path = Tied(), tmp_path / "w.safetensors"
    save_weights(model, path)
    with safe_open(path, "pt") as file:
        assert sorted(file.keys()) == ["first.weight", "second.weight"]
    fresh = Tied()
    load_weights(fresh, path)
    assert torch.equal(fresh.second.weight, model.first.weight)
    assert fresh.second.weight is fresh.first.weight
    save_model(model, str(path))  # safetensors' own writer drops one of the two names
    load_weights(Tied(), path)


def test_a_failed_save_leaves_the_old_file(trained, tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_weights(trained, path)
    before = path.read_bytes()

    def crash(_descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", crash)
    with pytest.raises(OSError, match="no space"):
        save_weights(ZOO["resnet8"](10), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"step": 1}

    with pytest.raises(InputError, match=r"_extra_state.*dict"):
        save_weights(Extra(2, 2), tmp_path / "w.safetensors")


def test_other_class_count_is_said_in_plain_words(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(trained, path)
    model = ZOO["resnet8"](100)
    before = model.fc.bias.clone()
    with pytest.raises(
        InputError,
        match=r"the checkpoint has 10 classes, the model 100 as the data; give data with these 10.*new_head=true",
    ):
        load_weights(model, path)
    assert torch.equal(model.fc.bias, before)


def test_other_widths_and_channels_name_the_tensors(trained, tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(trained, path)
    with pytest.raises(InputError, match=r"conv1\.weight is \(16, 3, 3, 3\) there and \(16, 1, 3, 3\) here"):
        load_weights(ZOO["resnet8"](10, 1), path)
    torch.save({"weight": torch.zeros(4, 3), "bias": torch.zeros(4)}, path)  # the content decides, not the suffix
    with pytest.raises(InputError, match="2 tensors have other shapes"):
        load_weights(nn.Linear(2, 5), path)


def test_other_architecture_counts_and_names_what_differs(trained, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(trained.state_dict(), path)
    model = ZOO["resnet14"](10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InputError) as caught:
        load_weights(model, path)
    message = str(caught.value)
    assert "30 missing (layer1.1.conv1.weight, " in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 400
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    torch.save({**trained.state_dict(), "extra.weight": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"1 unexpected \(extra.weight\)"):
        load_weights(ZOO["resnet8"](10), path)


def test_checkpoints_from_before_batch_counters_load(trained, tmp_path):
    path = tmp_path / "old.pth"
    torch.save({k: v for k, v in trained.state_dict().items() if "num_batches" not in k}, path)
    fresh = ZOO["resnet8"](10)
    load_weights(fresh, path)
    assert torch.equal(fresh.layer3[0].conv2.weight, trained.layer3[0].conv2.weight)


def test_a_models_own_child_named_module_keeps_its_prefix(tmp_path):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = nn.Linear(2, 2)

    model, path = Holder(), tmp_path / "w.pth"
    torch.save(model.state_dict(), path)
    fresh = Holder()
    load_weights(fresh, path)
    assert _same(fresh, model)


@pytest.mark.parametrize(
    "value",
    [
        "text",
        None,
        torch.ones(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.ones(2, dtype=torch.complex64),
        torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
    ],
    ids=["text", "none", "sparse", "meta", "complex", "four bits"],
)
def test_an_entry_that_is_no_plain_tensor_is_named_and_nothing_is_loaded(value, tmp_path):
    path, model = tmp_path / "w.pth", nn.Linear(2, 2)
    torch.save({"weight": torch.full((2, 2), 7.0), "bias": value}, path)
    before = model.weight.clone()
    with pytest.raises(InputError, match=r"bias is (a|of type) "):
        load_weights(model, path)
    assert torch.equal(model.weight, before)


def test_names_with_line_breaks_and_without_end_are_shown_on_one_line(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.ones(2, 2), "bias\n" * 1000: torch.ones(2)}, path)
    with pytest.raises(InputError, match=r"unexpected \(bias\\n") as caught:
        load_weights(nn.Linear(2, 2), path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def _prefixed(prefix, state):
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["model.", "net.", "backbone.", "model._orig_mod.", "module.model.", "anything.the.author.chose."]
)
def test_a_prefix_that_the_models_tensors_share_is_dropped_and_what_is_beside_them_left_out(prefix, trained, tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save({"state_dict": {**_prefixed(prefix, trained.state_dict()), "criterion.weight": torch.ones(3)}}, path)
    fresh = ZOO["resnet8"](10)
    loaded = load_weights(fresh, path)
    assert _same(fresh, trained)
    assert (loaded.prefix, loaded.beside, loaded.place) == (prefix, 1, "state_dict")
    assert str(loaded) == f"left out 1 tensor outside {prefix}"


def test_what_is_under_the_prefix_still_has_to_fit(trained, tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save(_prefixed("model.", {**trained.state_dict(), "extra.weight": torch.ones(1)}), path)
    with pytest.raises(InputError, match=r"1 unexpected \(extra\.weight\)"):
        load_weights(ZOO["resnet8"](10), path)


def test_two_networks_in_one_file_are_refused_by_name(trained, tmp_path):
    path = tmp_path / "w.ckpt"
    torch.save({**_prefixed("student.", trained.state_dict()), **_prefixed("teacher.", trained.state_dict())}, path)
    with pytest.raises(InputError, match=r"2 networks that fit, under student\., teacher\.; save"):
        load_weights(ZOO["resnet8"](10), path)


@pytest.mark.parametrize(
    "save",
    [
        lambda plain, averaged: {"state_dict": plain, "state_dict_ema": averaged, "epoch": 3},  # timm
        lambda plain, averaged: {  # torchvision's reference training
            "model": plain,
            "model_ema": {**_prefixed("module.", averaged), "n_averaged": torch.tensor(7)},
        },
        lambda plain, averaged: {"model": plain, "ema": {"module": averaged, "updates": 3}},
        lambda plain, averaged: {"state_dict": {**_prefixed("net.", plain), **_prefixed("ema_net.module.", averaged)}},
    ],
    ids=["timm", "torchvision", "nested", "lightning"],
)
def test_averaged_weights_are_taken_as_timm_does_unless_told_otherwise(save, trained, tmp_path):
    path, plain = tmp_path / "w.pth", ZOO["resnet8"](10)
    torch.save(save(plain.state_dict(), trained.state_dict()), path)
    fresh = ZOO["resnet8"](10)
    assert "the averaged (EMA) weights" in str(load_weights(fresh, path))
    assert _same(fresh, trained)
    loaded = load_weights(fresh, path, ema=False)
    assert not loaded.averaged
    assert _same(fresh, plain)


def test_averaged_weights_that_are_the_only_ones_are_taken_and_said(trained, tmp_path):
    path, fresh = tmp_path / "w.pth", ZOO["resnet8"](10)
    torch.save({"state_dict_ema": trained.state_dict(), "state_dict": None}, path)
    assert str(load_weights(fresh, path, ema=False)) == "the averaged (EMA) weights (state_dict_ema) were loaded"
    assert _same(fresh, trained)


def _body(model, head):
    return {name: value for name, value in model.state_dict().items() if not name.startswith(head)}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet8", "fc."),
        ("timm:test_vit", "head."),
        ("timm:test_convnext", "head.fc."),
        ("torchvision:squeezenet1_1", "classifier.1."),
    ],
)
def test_a_new_head_is_put_on_the_body_of_a_checkpoint(name, head, tmp_path):
    path = tmp_path / "w.safetensors"
    trained = build_model(name, num_classes=12)
    save_weights(trained, path)
    model = build_model(name, num_classes=5)
    own = [k for k in model.state_dict() if k.startswith(head)]
    assert classes_of_checkpoint(path, model) == 12
    with pytest.raises(InputError, match=r"12 classes, the model 5 .*new_head=true"):
        load_weights(model, path)
    with pytest.raises(InputError, match=r"12 classes, the model 5 as the data; give .*, or a checkpoint for 5$"):
        load_weights(model, path, new_head=None)
    loaded = load_weights(model, path, new_head=True)
    assert (loaded.new_head, loaded.classes) == (True, 12)
    assert "the head is new; the file has a head for 12 classes" in str(loaded)
    body = _body(trained, head)
    assert all(torch.equal(value, body[k]) for k, value in _body(model, head).items())
    assert own
    assert not any(model.state_dict()[k].any() for k in own)


def test_auxiliary_heads_are_new_as_well(tmp_path):
    path = tmp_path / "w.pth"
    with torch.device("meta"):
        shapes = build_model("torchvision:googlenet", num_classes=3).state_dict()
        model = build_model("torchvision:googlenet", num_classes=2)
    torch.save({k: torch.ones(v.shape, dtype=v.dtype) for k, v in shapes.items()}, path)
    model.to_empty(device="cpu")
    assert load_weights(model, path, new_head=True).new_head
    assert model.aux1.fc2.weight.eq(0).all()
    assert model.aux1.fc1.weight.eq(1).all()


def test_a_head_of_the_right_size_is_loaded_although_a_new_one_would_be_accepted(trained, tmp_path):
    path, fresh = tmp_path / "w.pth", ZOO["resnet8"](10)
    torch.save(trained.state_dict(), path)
    assert not load_weights(fresh, path, new_head=True).new_head
    assert _same(fresh, trained)


@pytest.mark.parametrize("projector", [False, True], ids=["none", "projector"])
def test_a_backbone_without_a_classifier_requires_a_new_head(projector, trained, tmp_path):
    path, fresh = tmp_path / "w.pth", ZOO["resnet8"](10)
    backbone = _prefixed("module.encoder_q.", _body(trained, "fc."))
    extra = {"module.encoder_q.fc.0.weight": torch.zeros(8, 64)} if projector else {}
    torch.save({"state_dict": {**backbone, **extra}}, path)
    assert classes_of_checkpoint(path, fresh) is None
    with pytest.raises(InputError, match=r"no head for the model: 2 missing \(fc\.weight.*new_head=true"):
        load_weights(fresh, path)
    assert "the file has no head" in str(load_weights(fresh, path, new_head=True))
    assert torch.equal(fresh.layer3[0].conv2.weight, trained.layer3[0].conv2.weight)


def test_a_new_head_is_no_excuse_for_another_architecture(trained, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(trained.state_dict(), path)
    with pytest.raises(InputError, match="another architecture"):
        load_weights(ZOO["resnet14"](5), path, new_head=True)


def test_a_file_for_another_image_size_is_resized_by_timm(tmp_path):
    path = tmp_path / "w.pth"
    trained = build_model("timm:test_vit", num_classes=4, image_size=64)
    torch.save(trained.state_dict(), path)
    model = build_model("timm:test_vit", num_classes=4, image_size=96, checkpoint=path)
    assert model.pos_embed.shape[1] > trained.pos_embed.shape[1]
    assert torch.equal(model.blocks[0].attn.qkv.weight, trained.blocks[0].attn.qkv.weight)
    other = build_model("timm:test_vit", num_classes=9, image_size=96, checkpoint=path, new_head=True)
    assert torch.equal(other.pos_embed, model.pos_embed)


def test_a_file_with_the_names_of_the_networks_authors_is_converted_by_timm(tmp_path):
    path = tmp_path / "w.pth"
    trained = build_model("timm:test_convnext", num_classes=4)
    theirs = {}
    for name, value in trained.state_dict().items():  # as facebookresearch/ConvNeXt writes them
        new = name.replace("stem.", "downsample_layers.0.").replace("head.norm.", "norm.").replace("head.fc.", "head.")
        if name.startswith("stages."):
            stage, rest = name.split(".", 2)[1:]
            new = f"stages.{stage}.{rest.removeprefix('blocks.')}"
            new = new.replace("conv_dw", "dwconv").replace("mlp.fc1", "pwconv1").replace("mlp.fc2", "pwconv2")
            if rest.startswith("downsample."):
                new = f"downsample_layers.{stage}.{rest.removeprefix('downsample.')}"
        theirs[new] = value
    torch.save({"model": theirs}, path)
    fresh = build_model("timm:test_convnext", num_classes=4)
    load_weights(fresh, path)
    assert _same(fresh, trained)
