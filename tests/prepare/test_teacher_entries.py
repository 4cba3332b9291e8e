import pytest

from stillroom.config import make_recipe
from stillroom.errors import InputError
from stillroom.prepare.teacher_entries import teacher_entries


def recipe(**settings):
    return make_recipe("distill", {"student": "resnet8", "data": "glyphs100", **settings})


def test_the_settings_of_one_teacher_become_its_entry():
    given = {"teacher_image_size": 64, "teacher_mean": [0.5] * 3, "teacher_std": [0.25] * 3, "class_map": "none"}
    (entry,), _, _ = teacher_entries(recipe(teacher="timm:resnet18", teacher_pretrained=True, **given))
    assert (entry.teacher, entry.pretrained, entry.image_size) == ("timm:resnet18", True, 64)
    assert (entry.mean, entry.std, entry.class_map, entry.weight) == ([0.5] * 3, [0.25] * 3, "none", 1.0)


def test_a_file_names_several_teachers(tmp_path):
    file = tmp_path / "team.yaml"
    file.write_text("combine: logits\nteachers: [{teacher: runs/a, weight: 2}, {teacher: runs/b, image_size: 64}]\n")
    entries, combine, confidence = teacher_entries(recipe(teacher=str(file)))
    assert [(entry.teacher, entry.weight, entry.image_size) for entry in entries] == [
        ("runs/a", 2.0, None),
        ("runs/b", 1.0, 64),
    ]
    assert (combine, confidence) == ("logits", False)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"teacher_image_size": 64}, "teacher_image_size=64"),
        ({"class_map": "none"}, "class_map=none"),
        ({"teacher_pretrained": True}, "teacher_pretrained=True"),
    ],
)
def test_a_setting_of_one_teacher_beside_a_file_of_several_is_refused(tmp_path, setting, name):
    file = tmp_path / "team.yaml"
    file.write_text("teachers: [{teacher: runs/a}]\n")
    with pytest.raises(InputError, match=rf"^{name}: .*names several teachers"):
        teacher_entries(recipe(teacher=str(file), **setting))


def test_mean_without_std_is_refused():
    with pytest.raises(InputError, match=r"teacher_mean=.*together with teacher_std"):
        recipe(teacher="timm:resnet18", teacher_mean=[0.5] * 3)
