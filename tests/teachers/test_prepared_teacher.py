import torch

from stillroom.data import Loader
from stillroom.tasks.classification import predict_all
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model


def prepared(data, times=1):
    teacher = TorchTeacher(tiny_model(), input_format=data.input_format, shares_input=True, class_count=4)
    members = (Member(teacher, teacher, "t", "w", {}, "f", []),) * times
    return PreparedTeacher(members, "probabilities", False, "w", {}, [], "f")


def test_all_validation_images_are_predicted_once_in_order(tiny_data):
    teacher = prepared(tiny_data)
    loader = Loader(tiny_data.val, batch_size=7, input_format=tiny_data.input_format, shuffle=False)
    logits, labels = predict_all(teacher.members[0].raw, loader.epoch(0))
    assert torch.equal(labels, tiny_data.val.labels)
    model = teacher.modules[0].eval()
    with torch.no_grad():
        expected = torch.cat([model(batch.images) for batch in loader.epoch(0)])
    assert torch.equal(logits, expected)


def test_stand_ins_are_not_counted(tiny_data):
    few = tiny_data.val.at(torch.arange(3))
    parts = [
        Loader(few, batch_size=2, input_format=tiny_data.input_format, shuffle=False, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    found = [predict_all(prepared(tiny_data).members[0].raw, part.epoch(0))[0] for part in parts]
    assert [len(logits) for logits in found] == [2, 1]


def test_a_network_shows_a_method_its_module(tiny_data):
    teacher = prepared(tiny_data)
    assert teacher.side().module is teacher.modules[0]


def test_several_teachers_show_their_logits_only(tiny_data):
    side = prepared(tiny_data, times=2).side()
    assert side.module is None
    assert "several" in side.why
