"""What a second view's logits must look like."""

from __future__ import annotations

import pytest
import torch

from stillroom.losses.strong_view import check_strong_view

GOOD = torch.zeros(3, 5)


def test_logits_of_the_same_images_and_classes_fit() -> None:
    check_strong_view(GOOD.half(), GOOD, GOOD)


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="student_logits_strong has batch size 2"):
        check_strong_view(torch.zeros(2, 5), GOOD, GOOD)
    with pytest.raises(ValueError, match=r"teacher_logits_strong has \(3, 6\): give both views"):
        check_strong_view(GOOD, torch.zeros(3, 6), GOOD)
    with pytest.raises(ValueError, match=r"student_logits_strong has dtype torch\.int64"):
        check_strong_view(GOOD.long(), GOOD, GOOD)
    with pytest.raises(ValueError, match="teacher_logits_strong is None: pass a tensor"):
        check_strong_view(GOOD, None, GOOD)  # type: ignore[arg-type]
