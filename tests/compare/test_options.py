from __future__ import annotations

import pytest

from stillroom.compare.options import CompareOptions, labelled, seeds_of
from stillroom.errors import InputError


def options(**changed):
    return CompareOptions(**{"teachers": "resnet56", "students": "resnet20", **changed})


def test_commas_inside_a_method_do_not_cut_it():
    methods = "ce, kd,ldrld(depth=5, temperature=2) ,0.1*ce + 9*standardized(kd(temperature=2))"
    assert list(labelled(options(methods=methods), "methods")) == [
        "ce", "kd", "ldrld(depth=5, temperature=2)", "0.1*ce + 9*standardized(kd(temperature=2))",
    ]  # fmt: skip


def test_a_mapping_gives_names_and_a_list_keeps_its_order():
    assert labelled(options(methods={"deep": "ldrld(depth=9)"}), "methods") == {"deep": "ldrld(depth=9)"}
    assert list(labelled(options(students=["b", "a"]), "students")) == ["b", "a"]


@pytest.mark.parametrize("bad", ["", "kd,", "kd,kd", [], {"": "kd"}])
def test_empty_and_double_entries_are_refused(bad):
    with pytest.raises(InputError, match=r"^methods="):
        labelled(options(methods=bad), "methods")


@pytest.mark.parametrize(("given", "seeds"), [(3, [0, 1, 2]), ("2", [0, 1]), ("7,3", [3, 7]), ([5], [5])])
def test_seeds_are_a_number_or_a_list(given, seeds):
    assert seeds_of(options(seeds=given)) == seeds


@pytest.mark.parametrize("bad", [0, -1, "many", "1,1", [], [-1], "1.5"])
def test_impossible_seeds_are_refused(bad):
    with pytest.raises(InputError, match=r"^seeds="):
        seeds_of(options(seeds=bad))
