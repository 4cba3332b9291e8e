"""What a method needs labels for: losses that read them, and the student's classifier."""

from __future__ import annotations

from stillroom.errors import InputError
from stillroom.methods.method import Method

READS = {"target": "the labels", "train_labels": "the labels of all training images"}
OF_CLASSIFIER = frozenset(("student_logits", "student_logits_strong", "student_head"))


def trains_classifier(method: Method, *, labels: bool) -> bool:
    """Whether anything trains the student's classifier, or replaces it by the teacher's.

    Args:
        method: the losses.
        labels: whether any training image has a label.
    """
    read = {name for term in method.terms if term.weight for name in term.needs}
    return bool(read & OF_CLASSIFIER) or method.projector_factor is not None or (labels and method.ce > 0)


def refuse_unlabelled(method: Method, count: int, total: int) -> None:
    """Refuse a method that cannot be used with training images without a label.

    Args:
        method: the losses.
        count: number of training images without a label.
        total: number of all training images.

    Raises:
        InputError: a loss reads labels; or no image has one, and the method has nothing but the cross-entropy.
    """
    if not count:
        return
    if count == total and not any(term.weight for term in method.terms):
        raise InputError(
            f"method={method.text!r} learns from labels only, and no training image has one; distil a teacher with a "
            "loss that reads no labels, such as ldrld, kd or rkd"
        )
    for term in method.terms:
        read = next((READS[name] for name in (*term.needs, *term.connect_needs) if name in READS), None)
        if read is not None:
            raise InputError(
                f"method={method.text!r}: {term.name} reads {read}, and {count:,} of {total:,} training images have "
                "none; use losses that read no labels, such as ldrld, kd, dist or rkd, or remove these images"
            )
