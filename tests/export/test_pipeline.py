from __future__ import annotations

import json
import re
import shutil
import sys
from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import stillroom
from stillroom.engine.predictions import predictions_of
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export import export, load, onnx_session, pipeline
from stillroom.export import export_folder as folder_module
from stillroom.resolve import fingerprint
from stillroom.restore import dataset_of, student_of
from stillroom.trust import Trust
from tests.conftest import tiny_model
from tests.export.conftest import FAST

# The zoo, the demo's student, one model each of timm and torchvision, and the teacher's classifier in a student.
STUDENTS = {
    "resnet8": "kd",
    "stillroom.models.demo_nets:small": "kd",
    "timm:test_vit": "kd",
    "torchvision:shufflenet_v2_x0_5": "kd",
    "resnet14": "simkd",
}


def silent(_line):
    pass


@pytest.fixture(scope="session")
def made(make_run, tmp_path_factory):
    """An export of each student, without speed, made once."""
    results = {}

    def make(student):
        if student not in results:
            run = make_run(student, STUDENTS[student])
            out = tmp_path_factory.mktemp("exports") / "out"
            results[student] = (run, export(run, out, latency=False, say=silent))
        return results[student]

    return make


def validation_images(run, count):
    data = dataset_of(run)
    images = data.val.images[torch.arange(count) % len(data.val)].float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))
    return (images - mean) / std


@pytest.mark.parametrize("student", STUDENTS)
def test_weights_come_back_as_the_run_left_them(made, student):
    run, result = made(student)
    model, config = load(result.folder)
    assert fingerprint(model) == fingerprint(student_of(run, dataset_of(run)))
    assert not model.training
    assert config["classes"] == run.config()["classes"]
    assert config["parameters"] == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("student", STUDENTS)
def test_the_graphs_take_any_batch_and_answer_as_pytorch(made, student):
    run, result = made(student)
    model = student_of(run, dataset_of(run))
    for batch, (name, tolerance) in product((1, 3, 64), (("model.onnx", 1e-4), ("model-int8.onnx", 0.2))):
        images = validation_images(run, batch)
        with torch.no_grad():
            expected = model(images)
        session = onnxruntime.InferenceSession(str(result.folder / name))
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        assert logits.shape == (batch, 4)
        assert np.abs(logits - expected.numpy()).max() <= tolerance * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("student", STUDENTS)
def test_the_snippets_of_the_card_name_the_class_that_the_model_names(
    made, student, images, tmp_path, monkeypatch, capsys
):
    run, result = made(student)
    for file in result.files:
        shutil.copy(file, tmp_path)
    shutil.copy(max((images / "val" / "colour 3").glob("*.png"), key=lambda path: path.name), tmp_path / "image.png")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (tmp_path / "README.md").read_text(), re.DOTALL)
    for snippet in snippets:
        exec(snippet, {})
    place = int((dataset_of(run).val.labels == 3).nonzero()[-1])
    expected = run.config()["classes"][int(predictions_of(run).logits[place].argmax())]
    assert capsys.readouterr().out.splitlines() == [expected, expected]


def test_models_of_timm_and_torchvision_need_no_stillroom(made):
    for student in ("timm:test_vit", "torchvision:shufflenet_v2_x0_5"):
        card = (made(student)[1].folder / "README.md").read_text()
        assert "from stillroom" not in card
    assert made("timm:test_vit")[1].scores["PyTorch"].images == 24


def test_accuracies_are_measured_from_the_files_themselves(made):
    run, result = made("resnet8")
    data = dataset_of(run)
    images = validation_images(run, len(data.val))
    for form, name in (("onnxruntime", "model.onnx"), ("onnxruntime int8", "model-int8.onnx")):
        (logits,) = onnxruntime.InferenceSession(str(result.folder / name)).run(None, {"images": images.numpy()})
        expected = 100 * (logits.argmax(1) == data.val.labels.numpy()).mean()
        assert result.scores[form].top1 == pytest.approx(expected)
        assert f"| student, {form} | {expected:.2f} % |" in (result.folder / "README.md").read_text()


def test_the_int8_file_computes_in_integers_and_keeps_its_logits_fine(made):
    graph = onnx.load(made("resnet8")[1].folder / "model-int8.onnx").graph
    assert {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4} == {onnx.TensorProto.INT8}
    assert next(node for node in graph.node if "logits" in node.output).op_type == "Gemm"


def test_the_int8_file_is_as_accurate_when_its_sums_are_not_cut_short(made):
    # Weights beyond 7 bits overflow 16-bit sums on processors without VNNI.
    graph = onnx.load(made("resnet8")[1].folder / "model-int8.onnx").graph
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            assert np.abs(onnx.numpy_helper.to_array(tensor).astype(int)).max(initial=0) <= 64


def test_the_graph_holds_its_classes_and_normalisation_and_no_paths(made):
    run, result = made("resnet8")
    model = onnx.load(result.folder / "model.onnx")
    facts = json.loads({entry.key: entry.value for entry in model.metadata_props}["stillroom"])
    config = json.loads((result.folder / "config.json").read_text())
    assert facts["classes"] == config["classes"] == run.config()["classes"]
    assert (facts["mean"], facts["std"]) == (run.config()["mean"], run.config()["std"])
    for file in result.files:
        assert b"site-packages" not in file.read_bytes()
        assert str(run.path.parent).encode() not in file.read_bytes()


def test_the_student_comes_alone(made):
    tensors = load(made("resnet8")[1].folder)[0].state_dict()
    assert load_file(made("resnet8")[1].folder / "model.safetensors").keys() == tensors.keys()


def test_the_same_export_again_renews_the_files_and_drops_what_is_not_asked_for(made, tmp_path):
    run, first = made("resnet8")
    folder = tmp_path / "out"
    shutil.copytree(first.folder, folder)
    (folder / "my notes.txt").write_text("mine")
    result = export(run, folder, onnx=False, latency=False, say=silent)
    assert [file.name for file in result.files] == ["config.json", "model.safetensors", "README.md"]
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "my notes.txt",
    ]  # fmt: skip


def test_files_of_others_are_never_overwritten(made, make_run, tmp_path):
    run, _ = made("resnet8")
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"holds other files \(README\.md\); nothing is overwritten"):
        export(run, tmp_path, say=silent)
    with pytest.raises(InputError, match="is a file; give a folder"):
        export(run, tmp_path / "README.md", say=silent)
    with pytest.raises(InputError, match="export of a student with other weights"):
        export(make_run("teacher"), made("resnet8")[1].folder, onnx=False, say=silent)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_without_the_extra_one_line_says_so_before_any_work(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")
    monkeypatch.setattr(onnx_session, "find_spec", lambda name: None if name == "onnxruntime" else object())
    monkeypatch.setattr(pipeline, "subject_of", lambda *_: pytest.fail("it began"))
    with pytest.raises(InputError, match=r"onnxruntime is not installed; pip install 'stillroom\[onnx\]'"):
        export(run, tmp_path / "out", say=silent)
    assert not (tmp_path / "out").exists()


def test_without_onnx_no_package_of_the_extra_is_needed(make_run, tmp_path, monkeypatch):
    for name in onnx_session.NEEDED:
        monkeypatch.setitem(sys.modules, name, None)  # importing it fails
    result = export(make_run("resnet8"), tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(result.scores) == ["PyTorch"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "onnx" not in card.lower()


@pytest.mark.parametrize("moment", ["the card", "the third file"])
def test_a_failure_on_the_way_leaves_nothing(made, monkeypatch, tmp_path, moment):
    run, _ = made("resnet8")

    def killed(*_args):
        raise KeyboardInterrupt

    if moment == "the card":
        monkeypatch.setattr(pipeline, "write_card", killed)
    else:
        copy, left = shutil.copyfile, [2]

        def third(*args):
            left[0] -= 1
            return copy(*args) if left[0] >= 0 else killed()

        monkeypatch.setattr(folder_module.shutil, "copyfile", third)
    with pytest.raises(KeyboardInterrupt):
        export(run, tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_answers_otherwise_is_an_error_and_leaves_nothing(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")
    right = pipeline.session_logits
    monkeypatch.setattr(pipeline, "session_logits", lambda *args: right(*args) + 0.1)
    with pytest.raises(InputError, match=r"does not answer as PyTorch: logits differ by up to 0\.1"):
        export(run, tmp_path / "out", latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_line(made, monkeypatch, tmp_path):
    run, _ = made("resnet8")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module.shutil, "copyfile", full)
    with pytest.raises(InputError, match=r"cannot be written \(No space left on device\)"):
        export(run, tmp_path / "out", onnx=False, latency=False, say=silent)
    assert list(tmp_path.iterdir()) == []


def test_unfinished_and_damaged_runs_are_refused(make_run, tmp_path):
    for name, damage, message in (
        ("unfinished", lambda path: (path / "summary.json").unlink(), "not finished"),
        ("damaged", lambda path: (path / "student.safetensors").write_bytes(b"\x08" * 99), "student.safetensors"),
        ("no run", lambda path: (path / "config.yaml").unlink(), "this folder is no run"),
    ):
        path = tmp_path / name
        shutil.copytree(make_run("resnet8").path, path)
        damage(path)
        with pytest.raises(InputError, match=message):
            export(RunFolder(path), onnx=False, latency=False, say=silent)
        assert not (path / "export").exists()


def test_a_module_that_was_handed_in_is_handed_in_again(tiny_data, tmp_path):
    settings = {key: value for key, value in FAST.items() if key != "image_size"}
    _, run = stillroom.train(model=tiny_model(), data=tiny_data, runs=str(tmp_path), **settings)
    with pytest.raises(InputError, match=r"handed in as a module .*student=MODULE"):
        export(run, say=silent)
    result = export(run, student=tiny_model(), data=tiny_data, latency=False, say=silent)
    assert result.folder == run.path / "export"
    assert result.scores["PyTorch"].top1 == pytest.approx(run.summary()["last"]["val_top1"])
    with pytest.raises(InputError, match=r"load\(folder, model=MODULE\)"):
        load(result.folder)
    config = json.loads((result.folder / "config.json").read_text())
    assert fingerprint(load(result.folder, tiny_model())[0]) == config["weights"]
    with pytest.raises(InputError, match="another architecture"):
        export(run, student=nn.Linear(2, 2), data=tiny_data, say=silent)


def test_a_function_that_is_gone_is_named(make_run, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(make_run("stillroom.models.demo_nets:small").path, path)
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace("stillroom.models.demo_nets:small", "gone.away:build"))
    with pytest.raises(InputError, match=r"gone\.away:build cannot be imported"):
        export(RunFolder(path, trust=Trust(files=True)), say=silent)
