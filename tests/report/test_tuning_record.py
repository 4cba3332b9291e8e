from __future__ import annotations

from dataclasses import replace

from tests.report.tunings import made_tuning


def test_held_out_scores_come_with_a_caution_where_the_teacher_was_trained_on_the_images(tmp_path):
    tuning = replace(made_tuning(tmp_path), held_out_images=1000)
    assert tuning.cautions == ()
    (caution,) = replace(tuning, seen_by_teacher=998).cautions
    assert caution.reason == (
        "The teacher of the trials was trained on 998 of the 1,000 held-out images. So held-out scores are too high, "
        "most of all those of methods that copy the teacher closely."
    )
    assert caution.remedy.startswith(f"Give search_teacher=, a run that was trained with hold_out={tuning.hold_out:g},")


def test_few_held_out_images_come_with_the_standard_error_of_a_score(tmp_path):
    tuning = replace(made_tuning(tmp_path), held_out_images=400)
    assert [*map(" ".join, tuning.cautions)] == [
        "A score on 400 held-out images has a standard error of up to 2.5 points, so smaller differences between "
        "trials can be chance. A larger hold_out= gives more"
    ]
    for other in ({"held_out_images": 1000}, {"held_out_images": 0}, {"settings": {"task": "detection"}}):
        assert replace(tuning, **other).cautions == ()


def test_a_teacher_that_the_tuning_trained_for_the_trials_moves_with_its_folder(tmp_path):
    tuning = made_tuning(tmp_path)
    assert tuning.trained_teacher is None
    assert replace(tuning, search_teacher="runs/other").trained_teacher is None
    assert replace(tuning, search_teacher="trials/teacher").trained_teacher == tmp_path / "trials" / "teacher"


def test_a_budget_counts_the_epochs_of_all_rungs(tmp_path):
    budget = made_tuning(tmp_path).budget
    assert (budget.epochs, budget.words) == (4 * 2 + 1 * 6, "4 x 2, 1 x 6")
