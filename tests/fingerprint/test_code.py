from __future__ import annotations

import copy
import functools
import sys
import types
import uuid

import pytest
import torch

from stillroom.fingerprint.code import code_digest, is_installed

SOURCE = """
import functools
import math
import helpers
LIMIT = 3
TABLE = {"a": 1}
def used(x):
    return x + LIMIT
def unused(x):
    return x
class Base:
    def forward(self, x):
        return used(x)
class Own(Base):
    size: int = 2
    def __init__(self, *, factor=2.0):
        self.factor = factor
    def step(self, x):
        inner = lambda y: y * 2
        return inner(super().forward(x)) + helpers.shift(TABLE["a"])
    @property
    def twice(self):
        return 2
    @functools.cached_property
    def once(self):
        return 3
    @staticmethod
    @functools.lru_cache
    def kept(x):
        return x - 4
"""


def made(monkeypatch, old="", new="", helper="return x + 5"):
    helpers = types.ModuleType("helpers")
    exec(f"def shift(x):\n    {helper}\ndef other(x):\n    return x\n", vars(helpers))
    module = types.ModuleType("code_of_ones_own")
    for each in (helpers, module):
        monkeypatch.setitem(sys.modules, each.__name__, each)
    assert old in SOURCE
    exec(SOURCE.replace(old, new), vars(module))
    return module.Own


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"), ('{"a": 1}', '{"a": 2}'), ("return used(x)", "return x"), ("y * 2", "y * 3"),
        ("return x + LIMIT", "return x - LIMIT"), ("size: int = 2", "size: int = 3"), ("factor=2.0", "factor=3.0"),
        ("return 2", "return 5"), ("return 3", "return 5"), ("return x - 4", "return x - 5"),
        ("class Own(Base)", "class Own"),
    ],
)  # fmt: skip
def test_what_a_class_computes_with_is_in_its_digest(monkeypatch, old, new):
    assert code_digest(made(monkeypatch)) != code_digest(made(monkeypatch, old, new))


def test_what_it_does_not_compute_with_is_not(monkeypatch):
    one = code_digest(made(monkeypatch))
    for old, new in (
        ("def unused(x):\n    return x", "def unused(x):\n    return 2 * x"),
        ("size: int", "size: float"),
    ):
        assert code_digest(made(monkeypatch, old, new)) == one
    assert code_digest(made(monkeypatch, "class Own(Base):", "class Own(Base):  # a comment\n")) == one
    assert code_digest(made(monkeypatch, helper="return x + 5  # five")) == one
    assert code_digest(made(monkeypatch, helper="return x + 6")) != one


def test_a_method_that_was_put_in_later_counts(monkeypatch):
    own = made(monkeypatch)
    one = code_digest(own)
    own.step = lambda self, x: x
    assert code_digest(own) != one


def test_closures_defaults_and_decorators_count():
    def adding(number):
        return lambda x: x + number

    def wrapped(function):
        @functools.wraps(function)
        def call(*inputs):
            return function(*inputs)

        return call

    assert code_digest(adding(1)) == code_digest(adding(1))
    different = [adding(1), adding(2), wrapped(adding(1)), wrapped(adding(2)), functools.partial(adding(1), 1)]
    different += [lambda x, y=1: x, lambda x, y=2: x, lambda x, *, y=1: x, lambda z, y=1: z]
    assert len({code_digest(function) for function in different}) == len(different)


def test_what_python_and_torch_add_to_a_class_in_its_use_is_no_part_of_it():
    def made():
        class Doubled(torch.autograd.Function):
            @staticmethod
            def forward(context, x):
                return 2 * x

            @staticmethod
            def backward(context, gradient):
                return 2 * gradient

        class Held:
            __slots__ = ("inner",)

        return Doubled, Held

    (doubled, held), (again, _) = made(), made()
    assert code_digest(doubled) == code_digest(again)
    before = code_digest(held)
    copy.copy(held())  # Python remembers the slots in the class
    assert code_digest(held) == before


def test_a_compiled_function_is_what_was_compiled():
    class Dispatcher:
        """As Numba's, which have a random name in every process."""

        def __init__(self, function):
            self.py_func, self.name = function, uuid.uuid4()

    one, other = (Dispatcher(lambda x: x + 1) for _ in range(2))
    assert code_digest(one) == code_digest(other) != code_digest(Dispatcher(lambda x: x + 2))


def test_python_packages_and_the_users_own_are_told_apart():
    assert all(map(is_installed, ("torch.nn.modules.linear", "math", "timm.models", "stillroom.losses", "PIL.Image")))
    assert not any(map(is_installed, ("__main__", __name__, "no_such_module")))


def test_a_users_own_module_may_be_called_like_one_of_pythons(tmp_path, monkeypatch):
    (tmp_path / "profile.py").write_text("")
    monkeypatch.setitem(sys.modules, "profile", types.ModuleType("profile"))
    sys.modules["profile"].__file__ = str(tmp_path / "profile.py")
    assert not is_installed("profile")
    assert is_installed("json.decoder")


def test_what_a_notebook_defines_is_the_users_own_whatever_started_it(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/venv/site-packages/ipykernel_launcher.py", raising=False)
    assert not is_installed("__main__")
