from __future__ import annotations

import onnxruntime
import pytest
import torch

from stillroom.export.form_scores import form_scores
from stillroom.restore import dataset_of
from tests.export.conftest import validation_images


def test_accuracies_are_measured_from_the_files_themselves(made):
    run, result = made("resnet8")
    data = dataset_of(run)
    images = validation_images(run, len(data.val))
    for form, name in (("onnxruntime", "model.onnx"), ("onnxruntime int8", "model-int8.onnx")):
        (logits,) = onnxruntime.InferenceSession(str(result.folder / name)).run(None, {"images": images.numpy()})
        expected = 100 * (logits.argmax(1) == data.val.labels.numpy()).mean()
        assert result.scores[form].top1 == pytest.approx(expected)
        assert f"| student, {form} | {expected:.2f} % |" in (result.folder / "README.md").read_text()


def test_scores_are_those_of_the_form_and_its_agreement_is_with_pytorch():
    reference = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]])
    found = form_scores(-reference[[0, 1, 2, 3]] * torch.tensor([[1.0], [-1.0], [-1.0], [-1.0]]), LABELS, reference)
    assert (found.top1, found.same, found.images) == (50.0, 75.0, 4)


def test_among_equal_logits_the_first_class_counts():
    equal = torch.zeros(4, 2)
    assert form_scores(equal, torch.tensor([0, 0, 0, 1]), equal).top1 == 75.0


LABELS = torch.tensor([0, 1, 1, 1])
