from __future__ import annotations

import pytest

from stillroom.compare.options import CompareOptions, methods_of, models_of, seeds_of
from stillroom.errors import InputError


def options(**changed):
    return CompareOptions(**{"teachers": "resnet56", "students": "resnet20", **changed})


def test_commas_inside_a_method_do_not_cut_it():
    methods = "ce, kd,ldrld(depth=5, temperature=2) ,0.1*ce + 9*standardized(kd(temperature=2))"
    assert list(methods_of(options(methods=methods))) == [
        "ce", "kd", "ldrld(depth=5, temperature=2)", "0.1*ce + 9*standardized(kd(temperature=2))",
    ]  # fmt: skip


def test_a_mapping_gives_names_and_a_list_keeps_its_order():
    assert models_of(options(students={"mine": "timm:resnet18"}), "students") == {"mine": "timm:resnet18"}
    assert list(models_of(options(students=["b", "a"]), "students")) == ["b", "a"]


def test_a_method_may_have_settings_of_its_own():
    methods = methods_of(options(methods={"KD": "kd", "slow": {"method": " kd", "lr": "1e-2", "milestones": [3]}}))
    assert {label: (method.text, method.settings) for label, method in methods.items()} == {
        "KD": ("kd", {}), "slow": ("kd", {"lr": 0.01, "milestones": [3]}),
    }  # fmt: skip


@pytest.mark.parametrize(("method", "said"), [
    ({"lr": 0.01}, r"^methods: slow: .*say which method"),
    ({"method": "kd", "lr": "fast"}, r"^methods: slow: lr=fast: give a number"),
    ({"method": "kd", "epochs": 3}, r"^methods: slow: methods cannot differ in 'epochs'; they can in optimizer, lr"),
])  # fmt: skip
def test_settings_that_a_method_cannot_have_are_refused(method, said):
    with pytest.raises(InputError, match=said):
        methods_of(options(methods={"slow": method}))


def test_one_model_under_two_names_is_refused():
    with pytest.raises(InputError, match=r"students=.*'resnet20' occurs twice"):
        models_of(options(students={"a": "resnet20", "b": "resnet20"}), "students")


@pytest.mark.parametrize("bad", ["", "kd,", "kd,kd", [], {"": "kd"}, {"kd": ""}])
def test_empty_and_double_entries_are_refused(bad):
    with pytest.raises(InputError, match=r"^methods="):
        methods_of(options(methods=bad))


@pytest.mark.parametrize(("given", "seeds"), [(3, [0, 1, 2]), ("2", [0, 1]), ("7,3", [3, 7]), ([5], [5])])
def test_seeds_are_a_number_or_a_list(given, seeds):
    assert seeds_of(options(seeds=given)) == seeds


@pytest.mark.parametrize("bad", [0, -1, "many", "1,1", [], [-1], "1.5"])
def test_impossible_seeds_are_refused(bad):
    with pytest.raises(InputError, match=r"^seeds="):
        seeds_of(options(seeds=bad))
