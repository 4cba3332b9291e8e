from __future__ import annotations

import onnxruntime
import pytest
import torch
from torch import nn

from stillroom.errors import InputError
from stillroom.export.onnx_graph import check_parity, write_graph


def test_ties_within_the_tolerance_are_counted_and_not_refused():
    ours = torch.tensor([[1.0, 1.0 + 1e-6], [3.0, 0.0]])
    theirs = torch.tensor([[1.0 + 2e-6, 1.0], [3.0, 0.0]])
    parity = check_parity(ours, theirs)
    assert (parity.images, parity.ties) == (2, 1)


@pytest.mark.parametrize("wrong", [5.0, float("nan"), float("inf")])
def test_a_logit_that_is_wrong_or_not_finite_is_refused(wrong):
    ours = torch.tensor([[1.0, 2.0]])
    with pytest.raises(InputError, match="differs from PyTorch"):
        check_parity(ours, torch.tensor([[1.0, wrong]]))


class Rich(nn.Module):
    """Answers with more than logits."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(12, 3)

    def forward(self, images):
        return {"logits": self.head(images.flatten(1)), "more": images}


def test_logits_are_found_in_what_a_model_returns(tmp_path):
    model = Rich().eval()
    write_graph(model, torch.randn(2, 3, 2, 2), tmp_path / "m.onnx", {})
    images = torch.randn(5, 3, 2, 2)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    assert [output.name for output in session.get_outputs()] == ["logits"]
    (logits,) = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(images)["logits"].detach())


class Counting(nn.Module):
    """Cannot be traced for any batch: it does something else for each."""

    def forward(self, images):
        return torch.stack([image.mean().repeat(len(images) % 3 + 1) for image in images])


def test_a_model_that_cannot_be_traced_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"Counting cannot be written as ONNX .*onnx=False"):
        write_graph(Counting(), torch.randn(2, 3, 2, 2), tmp_path / "m.onnx", {})
