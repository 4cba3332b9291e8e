"""Teachers of every kind, from their settings to a student."""

import threading
import time
from dataclasses import replace

import pytest
import torch
import yaml

from stillroom.api import distill, run_recipe, train
from stillroom.config import make_recipe
from stillroom.data import DataSet
from stillroom.errors import InputError
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.reporters import Silent
from tests.conftest import tiny_model, tiny_set
from tests.teachers.onnx_models import MEAN, STD, torch_and_onnx, write_onnx
from tests.teachers.servers import Server

SHORT = {"epochs": 2, "batch_size": 16, "accelerator": "cpu", "precision": "32", "lr": 0.05}
OWN = {"teacher_mean": list(MEAN), "teacher_std": list(STD), "class_map": "none"}


def student(classes):
    torch.manual_seed(3)
    return tiny_model(classes)


def taught(tmp_path, data, teacher, name, method="kd", **settings):
    """The record of a student of a teacher."""
    given = {"runs": str(tmp_path / "runs"), "name": name, **SHORT, **settings}
    return distill(teacher=teacher, student=student(len(data.train.classes)), data=data, method=method, **given).record


def losses(record):
    return [row["loss"] for row in record.epochs()]


def three_classes(data: DataSet) -> DataSet:
    return replace(data, train=data.train.select(first_classes=3), val=data.val.select(first_classes=3))


@pytest.fixture
def served(tmp_path):
    """A network, its ONNX file, and a server of that file."""
    model = torch_and_onnx(tmp_path / "net.onnx")
    server = Server(tmp_path / "net.onnx", tmp_path / "images.txt")
    yield model, tmp_path / "net.onnx", server
    server.kill()


def test_a_network_its_onnx_file_and_its_server_teach_alike(tmp_path, tiny_data, served):
    model, file, server = served
    network = taught(tmp_path, tiny_data, model, "network", **OWN)
    from_file = taught(tmp_path, tiny_data, file, "file", **OWN)
    remote = taught(tmp_path, tiny_data, server.url, "server", teacher_identity="first", **OWN)
    assert losses(from_file) == pytest.approx(losses(network), rel=1e-4)
    assert losses(remote) == pytest.approx(losses(network), rel=1e-4)
    for record in (from_file, remote):
        assert record.summary()["teacher"]["loss"] == pytest.approx(network.summary()["teacher"]["loss"], rel=1e-4)
        assert record.summary()["teacher_parameters"] is None


def test_a_server_that_dies_in_mid_run_is_waited_for_and_asked_once_for_each_image(tmp_path, tiny_data, served):
    _, _, server = served
    still = replace(tiny_data, augment=replace(tiny_data.augment, pad=0, flip=False))
    # One request at a time: of several, some would be predicted without a response before the end.
    served_by = {"teacher_identity": "first", "teacher_concurrency": 1, **OWN}
    whole = taught(tmp_path, still, server.url, "whole", bank=str(tmp_path / "one"), **served_by)
    asked = len(server.images)
    assert asked == len(set(server.images))
    server.behave(exit_after=3)

    def revive():
        server.process.wait()
        time.sleep(0.3)
        server.start()

    thread = threading.Thread(target=revive)
    thread.start()
    cut = taught(tmp_path, still, server.url, "cut", bank=str(tmp_path / "two"), **served_by)
    thread.join()
    assert losses(cut) == losses(whole)
    again = server.images[asked:]
    assert sorted(again) == sorted(set(server.images))  # each image once more, for the other folder


def test_a_second_run_asks_the_server_nothing(tmp_path, tiny_data, served):
    _, _, server = served
    first = taught(tmp_path, tiny_data, server.url, "first", teacher_identity="first", **OWN)
    asked = len(server.images)
    second = taught(tmp_path, tiny_data, server.url, "second", "dkd", teacher_identity="first", **OWN)
    assert len(server.images) == asked
    assert second.summary()["teacher"] == first.summary()["teacher"]


def test_two_files_never_share_a_bank(tmp_path, tiny_data):
    data, bank = three_classes(tiny_data), str(tmp_path / "bank")
    records = [
        taught(tmp_path, data, write_onnx(tmp_path / f"{scale}.onnx", scale=scale), f"s{scale}", bank=bank, **OWN)
        for scale in (1.0, 2.0)
    ]
    keys = [record.config()["teacher_bank"] for record in records]
    assert keys[0] != keys[1]
    assert losses(records[0]) != losses(records[1])


def test_another_file_under_the_same_name_does_not_continue_the_run(tmp_path, tiny_data):
    data, file = three_classes(tiny_data), tmp_path / "net.onnx"
    write_onnx(file, scale=1.0)
    taught(tmp_path, data, file, "run", **OWN)
    write_onnx(file, scale=2.0)
    with pytest.raises(InputError, match="nothing is overwritten"):
        taught(tmp_path, data, file, "run", **OWN)


def test_a_run_on_more_classes_teaches_those_of_the_data(tmp_path, tiny_data):
    whole = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="teacher", **SHORT)
    record = taught(tmp_path, three_classes(tiny_data), str(whole.record.path), "student")
    from stillroom.engine.predictions import predictions_of, teacher_predictions_of

    theirs = predictions_of(whole.record)
    mine = teacher_predictions_of(record)
    kept = theirs.labels < 3
    assert torch.allclose(mine.logits, theirs.logits[kept][:, :3], atol=2e-2)


def test_several_teachers_average_their_probabilities(tmp_path, tiny_data):
    names = [
        str(train(model="resnet8", data=tiny_data, runs=str(tmp_path), name=f"t{s}", seed=s, **SHORT).record.path)
        for s in (0, 1)
    ]
    team = tmp_path / "team.yaml"
    team.write_text(yaml.safe_dump({"teachers": [{"teacher": names[0], "weight": 3}, {"teacher": names[1]}]}))
    from stillroom.engine.predictions import teacher_predictions_of

    bank = str(tmp_path / "bank")
    together = taught(tmp_path, tiny_data, str(team), "both", bank=bank)
    alone = [
        teacher_predictions_of(taught(tmp_path, tiny_data, name, f"s{i}")).logits.softmax(1)
        for i, name in enumerate(names)
    ]
    expected = 0.75 * alone[0] + 0.25 * alone[1]
    assert torch.allclose(teacher_predictions_of(together).logits.softmax(1), expected, atol=2e-3)
    assert len(together.config()["teacher_bank"].split()) == 2  # a bank for each


def test_several_teachers_may_have_names_of_their_own_for_the_classes(tmp_path, tiny_data):
    run = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="teacher", **SHORT).record.path
    renamed = [replace(side, classes=("w", "x", "y", "z")) for side in (tiny_data.train, tiny_data.val)]
    data = DataSet("renamed", *renamed, *tiny_data_format(tiny_data))
    pairs = "".join(f"{one},{other}\n" for one, other in zip(tiny_data.train.classes, "wxyz", strict=True))
    (tmp_path / "names.csv").write_text(f"teacher,data\n{pairs}")
    entries = [{"teacher": str(run), "class_map": how} for how in ("names.csv", "none")]
    (tmp_path / "team.yaml").write_text(yaml.safe_dump({"teachers": entries}))
    together = taught(tmp_path, data, str(tmp_path / "team.yaml"), "both")
    alone = taught(tmp_path, data, str(run), "one", class_map="none")
    assert together.summary()["teacher"]["loss"] == pytest.approx(alone.summary()["teacher"]["loss"], rel=1e-5)


def test_the_cost_of_several_teachers_counts_each_at_its_own_size(tmp_path, tiny_data):
    one = str(train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="t", **SHORT).record.path)
    team = tmp_path / "team.yaml"
    team.write_text(yaml.safe_dump({"teachers": [{"teacher": one}, {"teacher": one, "image_size": 16}]}))
    costs = [
        taught(tmp_path, tiny_data, teacher, name, **given).summary()["teacher_macs"]
        for teacher, name, given in (
            (one, "own", {}),
            (one, "large", {"teacher_image_size": 16}),
            (str(team), "both", {}),
        )
    ]
    assert costs[1] > costs[0]
    assert costs[2] == costs[0] + costs[1]


def test_labels_only_teach_hard_labels(tmp_path, tiny_data):
    data = three_classes(tiny_data)
    file = write_onnx(tmp_path / "labels.onnx", outputs=("label",))
    classes = tmp_path / "classes.txt"
    classes.write_text("a\nb\nc\n")
    given = {"teacher_output": "labels", "teacher_classes": str(classes), **OWN}
    with pytest.raises(InputError, match=r"kd needs the teacher's top-k, but the teacher gives labels.*use hard"):
        taught(tmp_path, data, file, "kd", **given)
    assert taught(tmp_path, data, file, "hard", "hard", **given).finished


def test_probabilities_teach_as_logits_do(tmp_path, tiny_data):
    data = three_classes(tiny_data)
    one, other = (write_onnx(tmp_path / f"{kind}.onnx", outputs=(kind,)) for kind in ("logits", "probabilities"))
    logits = taught(tmp_path, data, one, "one", **OWN)
    probabilities = taught(tmp_path, data, other, "other", teacher_output="probabilities", **OWN)
    assert losses(probabilities) == pytest.approx(losses(logits), rel=1e-4)
    with pytest.raises(InputError, match=r"revision.*logits"):
        taught(tmp_path, data, other, "exact", "revision", teacher_output="probabilities", **OWN)


def test_the_k_most_likely_classes_teach_kd_but_not_ldrld(tmp_path, tiny_data):
    data, classes = three_classes(tiny_data), tmp_path / "classes.txt"
    classes.write_text("a\nb\nc\n")
    file = write_onnx(tmp_path / "top.onnx", outputs=("classes", "scores"))
    given = {"teacher_output": "top-k", "teacher_classes": str(classes), **OWN}
    names = {"teacher": str(file), "student": "mine", "data": "tiny", "method": "kd", "name": "kd"}
    recipe = make_recipe("distill", {**names, "runs": str(tmp_path), **SHORT, **given})
    reporter = Silent()
    reporter.say = (said := []).append
    assert run_recipe(recipe, reporter, Inputs(student=student(3), data=data)).record.finished
    assert any("spread evenly" in line for line in said)
    with pytest.raises(InputError, match=r"ldrld needs the teacher's probabilities.*top-k"):
        taught(tmp_path, data, file, "ldrld", "ldrld", **given)


def test_a_file_has_no_features(tmp_path, tiny_data):
    file = write_onnx(tmp_path / "net.onnx")
    with pytest.raises(InputError, match=r"at reads features of the teacher, but .*not a PyTorch network"):
        taught(tmp_path, three_classes(tiny_data), file, "at", "at", **OWN)


def test_a_teacher_of_other_classes_lends_no_classifier(tmp_path, tiny_data):
    whole = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="teacher", **SHORT)
    settings = {"runs": str(tmp_path), "name": "s", "method": "simkd", **SHORT}
    with pytest.raises(InputError, match="simkd uses the teacher's classifier, which has other classes"):
        distill(teacher=whole.record.path, student="resnet8x4", data=three_classes(tiny_data), **settings)


@pytest.mark.parametrize(
    ("teacher", "settings", "message"),
    [
        ("missing.onnx", {}, r"teacher=missing.onnx: there is no such file"),
        ("http://user:secret@host/v2/models/a", {}, "user name, a password"),
        ("http://host/v2/models/a", {"teacher_pretrained": True}, "has its weights; leave teacher_pretrained"),
        ("resnet8", {"class_map": "nowhere.csv"}, "class_map=nowhere.csv: give auto, none, or a file"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused_before_images_are_loaded(tmp_path, teacher, settings, message):
    given = {"student": "resnet8", "data": "no/such/folder", "runs": str(tmp_path), **SHORT, **settings}
    with pytest.raises(InputError, match=message):
        distill(teacher=teacher, **given)


def test_a_file_without_mean_and_std_asks_for_them(tmp_path, tiny_data):
    file = write_onnx(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="give teacher_mean= and teacher_std="):
        taught(tmp_path, three_classes(tiny_data), file, "run", class_map="none")


def test_a_data_set_with_classes_of_its_own_is_refused_with_the_fix(tmp_path, tiny_data):
    other = DataSet(
        "other", *(replace(tiny_set(n), classes=("w", "x", "y", "z")) for n in (20, 10)), *tiny_data_format(tiny_data)
    )
    whole = train(model="resnet8", data=tiny_data, runs=str(tmp_path), name="teacher", **SHORT)
    with pytest.raises(InputError, match=r"class_map=auto: no class of the data .*class_map=none"):
        taught(tmp_path, other, str(whole.record.path), "run")


def tiny_data_format(data):
    return data.mean, data.std, data.augment
