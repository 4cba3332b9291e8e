"""What a method needs labels for: losses that read them, also of mixed images, and the student's classifier."""

from __future__ import annotations

from stillroom.errors import InputError
from stillroom.losses.protocol import rows_of
from stillroom.methods.method import Method
from stillroom.methods.term import Term

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


def refuse_mixing(method: Method, setting: str) -> None:
    """Refuse a method with a loss that cannot be used with mixed images.

    Args:
        method: the losses.
        setting: by which images are mixed, such as "mixup=0.2".

    Raises:
        InputError: naming the loss, why it cannot be used, and the setting.
    """
    for term in method.terms:
        if reason := _unmixable(term):
            raise InputError(
                f"method={method.text!r}: {term.name} {reason}; with {setting} an image shows two classes. Leave it "
                "out, or use losses that read no labels or have rows(), such as ldrld, kd, dkd, nkd or rkd"
            )


def _unmixable(term: Term) -> str:
    """Why a loss cannot be used with mixed images; empty if it can."""
    reads = {*term.needs, *term.connect_needs}
    if "ids" in reads:
        return "remembers each image by its sample id"
    if "train_labels" in reads or "target" in term.connect_needs:
        return "builds on one label of each training image"
    if "target" in reads and rows_of(term.loss) is None:
        return "reads one label of each image and has no rows(), the losses of single images"
    return ""
