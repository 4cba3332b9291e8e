"""Networks without a classifier."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from stillroom.errors import InputError
from stillroom.models.backbone import build_backbone, without_head
from tests.conftest import tiny_model


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("head", [True, False])
def test_a_timm_backbone_is_built_from_a_checkpoint_with_or_without_a_head(tmp_path, name, head):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7)
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        wanted = model.eval().forward_head(model.forward_features(images), pre_logits=True)
    if not head:
        model.reset_classifier(0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    built = build_backbone(f"timm:{name}", checkpoint=tmp_path / "weights.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(built(images), wanted)


def test_a_function_is_called_with_no_classes_where_it_takes_them(tmp_path, monkeypatch):
    (tmp_path / "bare_nets.py").write_text(
        "from torch import nn\n"
        "def plain():\n    return nn.Flatten()\n"
        "def counted(num_classes=5):\n    return nn.Flatten() if num_classes == 0 else nn.Linear(1, num_classes)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for function in ("plain", "counted"):
        assert isinstance(build_backbone(f"bare_nets:{function}"), nn.Flatten)


def test_the_embedding_of_a_classifier_is_what_its_last_layer_takes():
    torch.manual_seed(0)
    model = tiny_model().eval()
    images = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        wanted = model[:-1](images)
        assert torch.equal(without_head(model, 3, (8, 8))(images), wanted)


def test_a_classifier_without_a_last_linear_layer_has_no_embedding():
    with pytest.raises(InputError, match=r"does not end in one linear layer.*give a network whose output"):
        without_head(nn.Sequential(tiny_model(), nn.Softmax(1)), 3, (8, 8))
