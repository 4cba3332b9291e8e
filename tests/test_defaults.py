from __future__ import annotations

import pytest

from stillroom.defaults import usual_lr, usual_milestones, usual_schedule


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [(1, []), (2, [1]), (3, [2]), (4, [2, 3]), (5, [3, 4]), (6, [4, 5]), (7, [4, 5, 6]), (240, [150, 180, 210])],
)
def test_no_two_default_milestones_of_a_short_run_coincide(epochs, milestones):
    assert usual_milestones(epochs) == milestones


@pytest.mark.parametrize(
    ("student", "rate"),
    [
        ("torchvision:mobilenet_v3_small", 0.01),
        ("fasterrcnn_resnet18_fpn", 0.01),
        ("stillroom.models.demo_detectors:small_detector", 0.01),
        ("torchvision.models.mobilenetv3.MobileNetV3", 0.01),
        ("timm:tf_efficientnet_lite0", 0.01),
        ("timm:hf-hub:shuffle/mobilenetv3_large_100.ra_in1k", 0.01),
        ("mine.nets:MobileNet.small", 0.01),
        ("timm:resnet18", 0.05),
        # Folders, packages and modules say nothing of what a model is.
        ("runs/shuffled-labels", 0.05),
        ("mobilenet.nets:residual", 0.05),
        ("tests.test_shuffle.test_mobilenet.<locals>.Net", 0.05),
        ("timm:hf-hub:mobilenets/resnet18", 0.05),
        ("timm:local-dir:models/mobilenet", 0.05),
    ],
)
def test_a_models_own_name_decides_its_learning_rate(student, rate):
    assert usual_lr("sgd", student, "milestones") == usual_lr("dot", student, "onecycle") == rate
    assert usual_lr("sgd", student, "onecycle") == 2 * rate


@pytest.mark.parametrize(("model", "rate"), [("resnet20", 0.05), ("MobileNetV2", 0.01)])
def test_a_run_folder_learns_as_what_it_trains_whatever_it_is_called(tmp_path, model, rate):
    for name, trained in (("shuffle-mobilenet", model), ("resnet", tmp_path / "shuffle-mobilenet")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(f"student: {trained}\n")
        assert usual_lr("sgd", str(tmp_path / name), "cosine") == rate


@pytest.mark.parametrize(
    ("optimizer", "schedule", "with_milestones"),
    [
        ("sgd", "onecycle", "milestones"),
        ("dot", "milestones", "milestones"),
        ("deepkd", "milestones", "milestones"),
        ("adamw", "cosine", "cosine"),
        ("lamb", "cosine", "cosine"),
    ],
)
def test_the_optimizer_decides_the_schedule_unless_a_setting_of_milestones_is_given(
    optimizer, schedule, with_milestones
):
    assert usual_schedule(optimizer, steps_down=False) == schedule
    assert usual_schedule(optimizer, steps_down=True) == with_milestones
