import pytest

from stillroom.teachers.teacher_kind import teacher_kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("runs/teacher", "network"),
        ("timm:resnet18", "network"),
        ("own.module:make", "network"),
        ("models/Big.ONNX", "onnx"),
        ("HTTP://localhost:8000/v2/models/big", "server"),
        ("https://host/v2/models/big/versions/3", "server"),
        ("team.yaml", "several"),
        ("team.yml", "several"),
    ],
)
def test_a_name_tells_what_it_stands_for(name, kind):
    assert teacher_kind(name) == kind
