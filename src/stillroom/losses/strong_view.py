"""The check of a second, strongly augmented view's logits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stillroom.losses.checks import check_feature, check_pair, check_same_shape

if TYPE_CHECKING:
    from torch import Tensor


def check_strong_view(student_logits_strong: Tensor, teacher_logits_strong: Tensor, student_logits: Tensor) -> None:
    """Refuse logits of a strong view that do not fit those of the weak view.

    Args:
        student_logits_strong: expected floating, of the weak view's shape and device.
        teacher_logits_strong: the same.
        student_logits: (B, C), the weak view, already checked.

    Raises:
        ValueError: naming the argument and what is wrong.
        NotFinite: one holds NaN or infinite values (CPU only).

    Example:
        >>> import torch
        >>> check_strong_view(torch.zeros(2, 5), torch.zeros(2, 6), torch.zeros(2, 5))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ValueError: student_logits has shape (2, 5) but teacher_logits_strong has (2, 6): give both views ...
    """
    for name, logits in (
        ("student_logits_strong", student_logits_strong),
        ("teacher_logits_strong", teacher_logits_strong),
    ):
        check_feature(name, logits, dimensions=2, shape="(B, C)")
        check_pair("student_logits", student_logits, name, logits)
        check_same_shape(
            "student_logits", student_logits, name, logits, fix="give both views of the same images and classes"
        )
