from __future__ import annotations

import re

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from stillroom import extras
from stillroom.batch import Batch
from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform
from stillroom.teachers.onnx_teacher import OnnxTeacher
from stillroom.teachers.teacher import Teacher
from tests.teachers.onnx_models import FACTS, HALF, MEAN, STD, write_onnx

PLAIN = InputFormat((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def pixels_of(count: int, side: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def batch_of(pixels: torch.Tensor, strong: torch.Tensor | None = None) -> Batch:
    ids = torch.arange(len(pixels))
    return Batch(pixels.float(), ids, ids, pixels=pixels, strong_pixels=strong)


def means(pixels: torch.Tensor) -> torch.Tensor:
    """The logits of :func:`write_onnx`'s files."""
    return pixels.float().div(255).mean((2, 3)) * torch.tensor([1.0, 2.0, 3.0])


def test_logits_are_those_of_the_exported_network(network):
    model, path = network
    teacher = OnnxTeacher(path, device="cpu")
    pixels, strong = pixels_of(7), pixels_of(7, seed=1)
    output = teacher.predict(batch_of(pixels, strong))
    transform = InputTransform(InputFormat(MEAN, STD))
    with torch.no_grad():
        expected, expected_strong = model(transform(pixels)), model(transform(strong))
    assert output.logits.dtype == torch.float32
    assert (output.logits - expected).abs().max() < 1e-4 * expected.abs().max()
    assert (output.parts["logits_strong"] - expected_strong).abs().max() < 1e-4 * expected_strong.abs().max()
    assert isinstance(teacher, Teacher)


def test_our_own_export_says_classes_and_normalisation(network):
    teacher = OnnxTeacher(network[1])
    assert teacher.classes == tuple(FACTS["classes"])
    assert teacher.input_format == InputFormat(MEAN, STD, (8, 8))


def test_images_of_another_size_are_resized_to_the_size_in_the_file(tmp_path):
    teacher = OnnxTeacher(write_onnx(tmp_path / "t.onnx"), input_format=PLAIN)
    flat = torch.full((2, 3, 20, 12), 51, dtype=torch.uint8)
    assert teacher.input_format.size == (8, 8)
    assert torch.allclose(teacher.predict(batch_of(flat)).logits, torch.tensor([0.2, 0.4, 0.6]).expand(2, 3))


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 3), ("h", "w", 3), (3, "h", "w")])
def test_every_layout_and_batch_size_predicts_the_same(tmp_path, batch, shape):
    teacher = OnnxTeacher(write_onnx(tmp_path / "t.onnx", batch=batch, shape=shape), input_format=PLAIN)
    pixels = pixels_of(6)
    assert torch.allclose(teacher.predict(batch_of(pixels)).logits, means(pixels), atol=1e-6)


def test_a_half_precision_file_gives_float32_logits(tmp_path):
    teacher = OnnxTeacher(write_onnx(tmp_path / "t.onnx", kind=HALF), input_format=PLAIN)
    pixels = pixels_of(5)
    logits = teacher.predict(batch_of(pixels)).logits
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, means(pixels), atol=5e-3)


@pytest.mark.parametrize(
    ("offers", "outputs"),
    [("probabilities", ["probabilities"]), ("top-k", ["classes", "scores"]), ("labels", ["label", "probabilities"])],
)
def test_what_it_offers_becomes_logits(tmp_path, offers, outputs):
    path = write_onnx(tmp_path / "t.onnx", outputs=outputs)
    teacher = OnnxTeacher(path, input_format=PLAIN, offers=offers, classes=["a", "b", "c"])
    pixels = pixels_of(5)
    found, truth = teacher.predict(batch_of(pixels)).logits, means(pixels).softmax(1)
    if offers == "labels":
        assert torch.equal(found.argmax(1), truth.argmax(1))
    else:  # with three classes, the top two and the rest are all there is
        assert torch.allclose(found.softmax(1), truth, atol=1e-5)
    assert teacher.class_count == 3


def test_identity_differs_by_file_output_and_input(tmp_path):
    a = write_onnx(tmp_path / "a.onnx", outputs=["logits", "other"])
    b = write_onnx(tmp_path / "b.onnx", outputs=["logits", "other"], scale=1.001)
    other_input = InputFormat((0.0, 0.0, 0.0), (0.5, 1.0, 1.0))

    def identity(path, name="logits", input_format=PLAIN):
        return OnnxTeacher(path, input_format=input_format, output_names=[name]).identity

    assert identity(a) == identity(a)
    assert len({identity(a), identity(b), identity(a, "other"), identity(a, "logits", other_input)}) == 4


def refusal(path, **given) -> str:
    with pytest.raises(InputError) as caught:
        OnnxTeacher(path, **{"input_format": PLAIN, **given})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_several_fitting_outputs_are_named(tmp_path):
    path = write_onnx(tmp_path / "t.onnx", outputs=["logits", "other"])
    said = refusal(path)
    assert "2 outputs that can hold logits: logits (float32, ? x 3), other (float32, ? x 3)" in said
    assert "teacher_output_name=" in said
    assert "has no output nothing" in refusal(path, output_names=["nothing"])


def test_inputs_that_do_not_fit_are_refused(tmp_path):
    path = write_onnx(tmp_path / "t.onnx")
    grey = InputFormat((0.5,), (0.5,))
    assert "has 3 channels, and the images have 1" in refusal(path, input_format=grey)
    assert "takes images of 8x8 pixels only" in refusal(path, input_format=InputFormat((0,) * 3, (1,) * 3, (9, 8)))
    assert "give teacher_mean= and teacher_std=" in refusal(path, input_format=None)
    assert "teacher_classes names 2" in refusal(path, classes=["a", "b"])
    assert "set teacher_output to what it offers" in refusal(path, offers="labels")
    assert "is no probabilities" in refusal(
        path, offers="probabilities", input_format=InputFormat((1,) * 3, (0.1,) * 3)
    )
    assert "give teacher_classes=" in refusal(write_onnx(tmp_path / "l.onnx", outputs=["label"]), offers="labels")


def test_probabilities_that_are_taken_for_logits_are_said(tmp_path):
    said: list[str] = []
    path = write_onnx(tmp_path / "t.onnx", outputs=["probabilities"])
    OnnxTeacher(path, input_format=PLAIN, say=said.append)
    assert len(said) == 1
    assert "looks like probabilities" in said[0]


def test_files_that_cannot_be_run_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no model at all")
    assert "is not an ONNX file" in refusal(tmp_path / "text.onnx")
    assert "cannot be read (No such file" in refusal(tmp_path / "missing.onnx")
    vector = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "vector",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    for name, opset in (("flat", 18), ("new", 99)):
        model = helper.make_model(vector, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        onnx.save_model(model, str(tmp_path / f"{name}.onnx"))
    assert "its input x (float32, ? x 3) is no batch of images" in refusal(tmp_path / "flat.onnx")
    assert re.search(r"onnxruntime cannot open the file \(.*[Oo]pset", refusal(tmp_path / "new.onnx"))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert "needs onnxruntime: pip install 'stillroom[onnx]'" in refusal(tmp_path / "t.onnx")
