"""The student with the teacher's classifier."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from stillroom.errors import InputError
from stillroom.losses.feature.simkd import simkd
from stillroom.models import ZOO
from stillroom.models.hooks import Point
from stillroom.models.model_parts import PartsReader
from stillroom.models.probe import probe_model
from stillroom.models.reused_classifier import ReusedHead

IMAGES = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def pair(**settings: object) -> tuple[ReusedHead, nn.Module]:
    torch.manual_seed(0)
    student, teacher = ZOO["resnet8"](5), ZOO["resnet8x4"](5)
    return ReusedHead(student, "layer3", 64, teacher.get_submodule("fc"), **settings), teacher.eval()  # type: ignore[arg-type]


def test_the_published_projector() -> None:
    reused, _ = pair()
    convolutions = [layer for layer in reused.projector if isinstance(layer, nn.Conv2d)]
    assert [tuple(layer.weight.shape) for layer in convolutions] == [
        (128, 64, 1, 1),
        (128, 128, 3, 3),
        (256, 128, 1, 1),
    ]
    assert all(layer.bias is None for layer in convolutions)
    assert [type(layer) for layer in reused.projector] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    assert pair(factor=8)[0].projector[0].out_channels == 32


def test_logits_are_the_teachers_classifier_on_the_projected_average() -> None:
    reused, teacher = pair()
    reused.eval()
    maps: list[Tensor] = []
    reused.projected.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    logits = reused(IMAGES)
    assert maps[0].shape == (4, 256, 8, 8)
    torch.testing.assert_close(logits, teacher.get_submodule("fc")(maps[0].mean((2, 3))))


def test_the_rest_of_the_program_finds_map_and_head() -> None:
    reused, teacher = pair()
    offers = probe_model(reused, IMAGES)
    assert offers.head == "head"
    reader = PartsReader(reused, offers, ("final_map", "head"))
    reused(IMAGES)
    parts = reader.read()
    assert parts["final_map"].shape == (4, 256, 8, 8)
    assert parts["head"] is reused.head
    reader.close()
    assert probe_model(teacher, IMAGES).final_map is not None


def test_training_moves_student_and_projector_towards_the_teacher_and_no_head() -> None:
    reused, teacher = pair()
    wanted: list[Tensor] = []
    teacher.get_submodule("layer3").register_forward_hook(lambda _module, _inputs, output: wanted.append(output))
    with torch.no_grad():
        teacher(IMAGES)
    before = copy.deepcopy(reused.state_dict())
    maps: list[Tensor] = []
    reused.projected.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    optimizer = torch.optim.SGD(reused.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    history = []
    for _ in range(12):
        maps.clear()
        optimizer.zero_grad()
        reused.train()(IMAGES)
        loss = simkd(maps[0], wanted[0])
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    assert history[-1] < 0.5 * history[0]
    after = reused.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert {"student.conv1.weight", "projector.0.weight", "projector.7.running_mean"} <= changed
    assert not any(name.startswith(("head.", "student.fc.")) for name in changed)
    assert all(not parameter.requires_grad for parameter in reused.head.parameters())
    assert all(parameter.grad is None for parameter in reused.student.get_submodule("fc").parameters())


def test_the_head_is_a_copy() -> None:
    teacher = ZOO["resnet8x4"](5)
    head = teacher.get_submodule("fc")
    reused = ReusedHead(ZOO["resnet8"](5), "layer3", 64, head)  # type: ignore[arg-type]
    assert all(parameter.requires_grad for parameter in head.parameters())
    nn.init.zeros_(head.weight)  # type: ignore[arg-type]
    assert reused.head.weight.abs().max() > 0


@pytest.mark.parametrize(
    ("size", "expected"), [(None, (8, 8)), ((8, 8), (8, 8)), ((16, 16), (8, 8)), ((4, 4), (4, 4)), ((3, 16), (3, 8))]
)
def test_only_a_larger_map_is_pooled(size: tuple[int, int] | None, expected: tuple[int, int]) -> None:
    reused, _ = pair(size=size)
    shapes: list[torch.Size] = []
    reused.projected.register_forward_hook(lambda _module, _inputs, output: shapes.append(output.shape[2:]))
    assert reused(IMAGES).shape == (4, 5)
    assert tuple(shapes[0]) == expected


def test_an_input_can_be_the_final_map() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    torch.manual_seed(1)
    before = ReusedHead(student, Point("1", "input"), 8, nn.Linear(12, 5)).eval()
    torch.manual_seed(1)
    after = ReusedHead(student, "1", 8, nn.Linear(12, 5)).eval()
    maps: dict[str, Tensor] = {}
    for name, reused in (("before", before), ("after", after)):
        reused.projector.register_forward_pre_hook(lambda _module, inputs, name=name: maps.update({name: inputs[0]}))
        reused(IMAGES)
    # The activation works in place; its input was kept as it was.
    assert (maps["before"] < 0).any()
    assert torch.equal(maps["before"].relu(), maps["after"])


def test_copies_and_pickles_work_by_themselves_and_hold_no_tensor_of_a_pass() -> None:
    reused, _ = pair(size=(4, 4))
    reused(IMAGES)
    reused.student(IMAGES)  # alone; deepcopy refuses a tensor with a graph, so a kept one would be noticed
    buffer = io.BytesIO()
    torch.save(reused, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    for twin in (copy.deepcopy(reused), pickle.loads(pickle.dumps(reused)), loaded):
        torch.testing.assert_close(twin.eval()(IMAGES), reused.eval()(IMAGES))
        with torch.no_grad():
            twin.student.get_submodule("conv1").weight.zero_()
        assert not torch.equal(twin(IMAGES), reused(IMAGES))
    assert {name.split(".")[0] for name in reused.state_dict()} == {"student", "projector", "head"}


def test_state_dict_goes_into_another() -> None:
    reused, _ = pair()
    torch.manual_seed(9)
    other = ReusedHead(ZOO["resnet8"](5), "layer3", 64, nn.Linear(256, 5))
    other.load_state_dict(reused.state_dict())
    assert torch.equal(other.eval()(IMAGES), reused.eval()(IMAGES))


def test_compiles_whole() -> None:
    reused, _ = pair(size=(4, 4))
    run = torch.compile(reused.eval(), fullgraph=True, backend="aot_eager")
    for scale in (1.0, 2.0):
        torch.testing.assert_close(run(scale * IMAGES), reused(scale * IMAGES))


def test_exports() -> None:
    reused = pair()[0].eval()
    program = torch.export.export(reused, (IMAGES,))
    torch.testing.assert_close(program.module()(2 * IMAGES), reused(2 * IMAGES))


def test_refused_arguments() -> None:
    student, head = ZOO["resnet8"](5), nn.Linear(256, 5)
    with pytest.raises(InputError, match="no submodule 'layer9'; did you mean layer"):
        ReusedHead(student, "layer9", 64, head)
    for factor in (0, 257):
        with pytest.raises(InputError, match=f"factor is {factor}: it must be between 1 and the teacher's 256"):
            ReusedHead(student, "layer3", 64, head, factor=factor)
    with pytest.raises(InputError, match=r"size \(0, 4\)"):
        ReusedHead(student, "layer3", 64, head, size=(0, 4))
    with pytest.raises(InputError, match=r"final_map is fc, of shape \(4, 5\): SimKD needs a map"):
        ReusedHead(student, "fc", 64, head)(IMAGES)


def test_a_pass_that_skips_the_map_is_refused() -> None:
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Conv2d(3, 8, 3)

        def forward(self, images: Tensor) -> Tensor:
            return images.mean((1, 2, 3))

    with pytest.raises(InputError, match="final_map is unused, which gave no tensor"):
        ReusedHead(Skips(), "unused", 8, nn.Linear(12, 5))(IMAGES)
