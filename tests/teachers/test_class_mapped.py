from __future__ import annotations

import torch

from stillroom.batch import Output
from stillroom.teachers.class_map import ClassMap
from stillroom.teachers.class_mapped import ClassMapped
from stillroom.teachers.offers import one_hot_logits
from stillroom.teachers.teacher import Teacher
from tests.teachers.fixed_teacher import FixedTeacher, batch_of

SWAP = ClassMap((1, 0, -1), 2)
LOGITS = torch.tensor([[1.0, 2.0, 9.0], [4.0, 3.0, 0.0]])


def test_it_is_a_teacher_of_the_datas_classes():
    inner = FixedTeacher(LOGITS, classes=("b", "a", "x"))
    mapped = ClassMapped(inner, SWAP, ("a", "b"))
    assert isinstance(mapped, Teacher)
    assert (mapped.classes, mapped.class_count, mapped.offers) == (("a", "b"), 2, "logits")
    assert mapped.input_format is inner.input_format
    inner.bank_seconds = 3.0
    assert mapped.bank_seconds == 3.0
    mapped.close()
    assert inner.closed


def test_both_views_are_mapped_and_features_are_kept():
    features = (torch.zeros(1),)
    inner = FixedTeacher(LOGITS, parts={"logits_strong": LOGITS + 1, "features": features})
    output = ClassMapped(inner, SWAP, ("a", "b")).predict(batch_of(2))
    assert isinstance(output, Output)
    assert output.logits.tolist() == [[2.0, 1.0], [3.0, 4.0]]
    assert output.parts["logits_strong"].tolist() == [[3.0, 2.0], [4.0, 5.0]]
    assert output.parts["features"] is features


def test_its_identity_covers_teacher_and_map():
    one, other = FixedTeacher(LOGITS, identity="one"), FixedTeacher(LOGITS, identity="other")
    texts = {ClassMapped(one, SWAP, "ab").identity, ClassMapped(other, SWAP, "ab").identity}
    texts.add(ClassMapped(one, ClassMap((0, 1, -1), 2), "ab").identity)
    assert len(texts) == 3


def test_a_label_that_is_no_class_of_the_data_favours_none():
    """Data class 0 has two teacher classes, whose summed one-hot logits would exceed those of class 1."""
    labels = one_hot_logits(torch.tensor([0, 1, 2, 3]), 4)
    inner = FixedTeacher(labels, offers="labels")
    logits = ClassMapped(inner, ClassMap((0, 0, 1, -1), 2), ("a", "b")).predict(batch_of(4)).logits
    assert logits.softmax(1).tolist() == [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]
