import pytest
import torch

from stillroom.data.source import check_vectors
from stillroom.errors import InputError


def test_labels_without_a_class_are_refused(small_set):
    from dataclasses import replace

    with pytest.raises(InputError, match="labels run from 0 to 4; with 3 classes"):
        replace(small_set, classes=tuple("abc"))


def test_a_selection_keeps_the_kind_of_source(small_set):
    some = small_set.select(3, 2)
    assert type(some) is type(small_set)
    assert (len(some), some.classes, some.kind) == (6, tuple("abc"), "memory")


def test_vectors_of_another_type_are_named():
    with pytest.raises(InputError, match=r"ids is torch.int32 \(3,\)"):
        check_vectors(3, labels=torch.zeros(3, dtype=torch.int64), ids=torch.zeros(3, dtype=torch.int32))
