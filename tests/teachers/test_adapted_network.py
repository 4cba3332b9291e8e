import pytest
import torch

from stillroom.errors import InputError
from stillroom.input_format import InputFormat, InputTransform
from stillroom.teachers.adapted_network import as_network
from stillroom.teachers.class_map import ClassMap
from stillroom.teachers.class_mapped import ClassMapped
from stillroom.teachers.prepared_teacher import Member, PreparedTeacher
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model

OUTER = InputFormat((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
INNER = InputFormat((0.2, 0.3, 0.4), (0.5, 0.6, 0.7), (20, 20))


def prepared(wanted, times=1, class_map=None):
    teacher = TorchTeacher(tiny_model(), input_format=wanted, shares_input=wanted == OUTER, class_count=4)
    mapped = teacher if class_map is None else ClassMapped(teacher, class_map, ("a", "b"))
    members = (Member(teacher, mapped, "t", "w", {}, "f", []),) * times
    return PreparedTeacher(members, "probabilities", False, "w", {}, [], "f")


def test_a_teacher_of_the_same_format_is_given_as_it_is():
    teacher = prepared(OUTER)
    assert as_network(teacher, OUTER) is teacher.modules[0]


def test_it_undoes_the_students_format_and_applies_the_teachers():
    teacher = prepared(INNER)
    pixels = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    network = as_network(teacher, OUTER)
    assert not network.training
    with torch.no_grad():
        found = network(InputTransform(OUTER)(pixels))
        expected = teacher.modules[0](InputTransform(INNER)(pixels))
    assert torch.allclose(found, expected, atol=1e-4)


def test_several_teachers_are_no_network():
    with pytest.raises(InputError, match="not a single PyTorch network"):
        as_network(prepared(OUTER, times=2), OUTER)


def test_it_predicts_the_classes_of_the_data():
    teacher = prepared(OUTER, class_map=ClassMap((1, -1, 0, -1), 2))
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        found, own = as_network(teacher, OUTER)(images), teacher.modules[0](images)
    assert torch.allclose(found, own[:, [2, 0]], atol=1e-4)


@pytest.mark.parametrize("wanted", [INNER, InputFormat(INNER.mean, INNER.std)], ids=["other size", "same size"])
def test_it_can_be_traced_for_the_speed_measurement_of_an_export(wanted):
    network = as_network(prepared(wanted, class_map=ClassMap((1, -1, 0, 0), 2)), OUTER)
    images = torch.randn(2, 3, 8, 8)
    traced = torch.export.export(network, (images,)).module()
    with torch.no_grad():
        assert torch.allclose(traced(images), network(images), atol=1e-5)
