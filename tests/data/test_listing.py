import numpy as np
import pytest

from stillroom.data.listing import Listing
from stillroom.errors import InputError


def listing(labels, names=None):
    names = names or [f"{label}/{place}" for place, label in enumerate(labels)]
    classes = tuple(str(label) for label in range(max(labels) + 1))
    return Listing("here", names, np.asarray(labels), classes, lambda: iter(()))


def test_same_share_of_every_class():
    labels = np.repeat([0, 1, 2], [50, 30, 4]).tolist()
    chosen = listing(labels).held_out(0.1, 0)
    assert np.bincount(np.asarray(labels)[chosen]).tolist() == [5, 3, 1]


def test_choice_follows_the_name_not_the_place():
    one = listing([0] * 10 + [1] * 10)
    turned = Listing("here", one.names[::-1], one.labels[::-1], one.classes, one.chunks)
    pick = {name for name, out in zip(one.names, one.held_out(0.3, 4), strict=True) if out}
    again = {name for name, out in zip(turned.names, turned.held_out(0.3, 4), strict=True) if out}
    assert pick == again
    assert pick != {name for name, out in zip(one.names, one.held_out(0.3, 5), strict=True) if out}


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_every_class_has_both(fraction):
    chosen = listing([0, 0, 1, 1]).held_out(fraction, 0)
    assert chosen[:2].sum() == chosen[2:].sum() == 1


def test_class_of_one_picture_cannot_be_split():
    with pytest.raises(InputError, match="1 class of here with one picture cannot be split: 1"):
        listing([0, 0, 1]).held_out(0.5, 0)
