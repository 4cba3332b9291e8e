from __future__ import annotations

import enum
import functools
import io
import operator
import pathlib
import sys
import weakref
from collections import OrderedDict, deque
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from stillroom.fingerprint.code import CODE_VISITS
from stillroom.fingerprint.walk import Walk


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    value: object = None


class Plain:
    def __init__(self, **attributes):
        vars(self).update(attributes)


def walked(value, **options):
    walk = Walk(CODE_VISITS, **options)
    walk.visit(value, "it")
    return walk


def digest(value, **options):
    walk = walked(value, **options)
    assert walk.opaque == []
    return walk.digest


DIFFERENT = [
    *(None, 0, 1, True, False, 1.0, -0.0, 0.0, float("nan"), 1j, "", "1", b"1", ..., NotImplemented),
    *((), (1,), [1], {1}, frozenset({1}), {1: 2}, {2: 1}, [[1], [2]], [1, [2]], [(1, 2)], [1, 2], range(3)),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, OrderedDict(a=1), deque([1]), deque([1], 3), slice(1), pathlib.Path("a")),
    *(
        Colour.RED,
        Colour.GREEN,
        Setting("a"),
        Setting("a", 1),
        Setting("b"),
        Plain(),
        Plain(a=1),
        Plain(a=2),
        Plain(b=1),
    ),
    *(torch.zeros(2), torch.zeros(3), torch.zeros(2, 1), torch.zeros(2).double(), torch.ones(2), torch.zeros(0)),
    *(torch.zeros(2).bfloat16(), torch.zeros(2).half(), torch.zeros(2, dtype=torch.bool), torch.zeros(2).cfloat()),
    *(np.zeros(2), np.zeros(2, np.float32), np.ones(2), np.float32(1), np.array(["a", None], dtype=object)),
    *(torch.float32, torch.float16, torch.channels_last, torch.Size([1]), int, Plain, Colour, len, max, [].append),
    *(torch.relu, torch.sigmoid, torch.nn.functional.relu, np.add, operator.itemgetter(1), operator.itemgetter(2)),
    *(functools.partial(max, 1), functools.partial(max, 2), functools.partial(max, key=len)),
    *(
        torch.Generator().manual_seed(1),
        torch.Generator().manual_seed(2),
        sys,
        Plain(a=Plain(a=1)),
        Plain(a=Plain(a=2)),
    ),
]


def test_whatever_differs_has_another_digest():
    prints = {}
    for value in DIFFERENT:
        other = prints.setdefault(digest(value), value)
        assert other is value, f"{other!r} and {value!r}"


def test_equal_objects_at_other_addresses_have_one():
    def made():
        return [
            Plain(a=[1, {2}, Setting("x", Plain())], t=torch.arange(6).view(2, 3), f=lambda x: x + 1), object(),
            torch.arange(4.0), {"a": np.arange(3)}, functools.partial(max, key=len), weakref.ref(Colour.RED),
        ]  # fmt: skip

    assert digest(made()) == digest(made())
    layout = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert digest(layout) == digest(layout.contiguous(memory_format=torch.channels_last))
    assert digest(Plain(a=1, b=2)) == digest(Plain(b=2, a=1))
    assert digest(torch.device("cpu")) == digest(torch.device("cuda"))


def test_cycles_end_and_two_names_for_one_thing_are_not_two_equal_things():
    ring: list[object] = [1]
    ring.append(ring)
    loop = Plain(a=1)
    loop.self = loop
    loop.known = {frozenset({1}): loop}
    for value in (ring, loop):
        digest(value)
    one = torch.ones(2)
    assert digest([one, one]) != digest([one, torch.ones(2)])
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    assert walked(nested).opaque  # too deep to compare


def test_values_may_be_left_out():
    assert digest(torch.zeros(2), values=False) == digest(torch.ones(2), values=False)
    assert digest(torch.zeros(2), values=False) != digest(torch.ones(3), values=False)
    assert digest(np.zeros(2), values=False) == digest(np.ones(2), values=False)
    learned = torch.zeros(2, requires_grad=True)
    assert digest(learned) != digest(torch.zeros(2))
    assert digest(learned, trained=False) == digest(torch.zeros(2), trained=False)


@pytest.mark.parametrize("held", [iter(x for x in ()), io.StringIO, sys.stdout], ids=["generator", "class", "stream"])
def test_what_cannot_be_compared_is_named(held):
    walk = walked(Plain(a=[1, Plain(inside={"log": held})]))
    if held is io.StringIO:
        assert walk.opaque == []
        return
    assert walk.opaque == [f"it.a[1].inside['log'] ({type(held).__name__})"]
    assert walk.left == [held]


def test_an_object_that_fails_when_it_is_taken_apart_is_not_compared():
    class Hostile:
        def __reduce_ex__(self, protocol):
            raise RuntimeError("no")

    assert walked([Hostile()]).opaque == ["it[0] (Hostile)"]
