from __future__ import annotations

import pytest

from stillroom.export.model_card import in_backticks, milliseconds


def test_text_of_users_is_code_and_breaks_no_table():
    assert in_backticks("a`b|c\n d") == "`a'b¦c d`"
    assert in_backticks("") == "(none)"


@pytest.mark.parametrize(("value", "text"), [(1234.5, "1,234"), (12.345, "12.3"), (0.01234, "0.0123"), (0.0, "0")])
def test_milliseconds_have_three_digits(value, text):
    assert milliseconds(value) == text


def test_a_card_tells_accuracy_training_and_limits(made):
    run, result = made("resnet8")
    card = (result.folder / "README.md").read_text()
    assert card.startswith("# `resnet8` for colours")
    assert f"| teacher, as the run recorded it | {run.summary()['teacher']['top1']:.2f} % |" in card
    assert f"| student, PyTorch | {result.scores['PyTorch'].top1:.2f} % |" in card
    assert "it was distilled from `stillroom.models.demo_nets:medium` with the method `kd`" in card.lower()
    assert "With 4 classes, top-5 is always 100 %." in card
    assert "Not measured in this export." in card
