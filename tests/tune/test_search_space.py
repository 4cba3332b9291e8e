from __future__ import annotations

import pytest

from stillroom.config import PER_METHOD, make_recipe
from stillroom.errors import InputError
from stillroom.losses.protocol import settings_of
from stillroom.methods import PRESETS, parse_method
from stillroom.methods.presets import WRAPPERS
from stillroom.report.comparison_file import NamedMethod
from stillroom.trust import Trust
from stillroom.tune.search_space import SETTINGS, check_space, make_space, read_spaces

CLASSES, EPOCHS = 20, 40


def space(text, entries=None, epochs=EPOCHS, **own):
    given = {"teacher": "t", "student": "resnet8", "data": "d", "epochs": epochs, "method": text, **own}
    return make_space(NamedMethod(text, own), make_recipe("distill", given), given, entries or read_spaces(), CLASSES)


def test_every_loss_and_wrapper_has_an_entry_of_parameters_that_exist():
    entries = read_spaces()
    assert entries.keys() == {SETTINGS, *PRESETS, *WRAPPERS}
    assert {*PER_METHOD} >= entries[SETTINGS].keys()
    for name, preset in PRESETS.items():
        assert {*settings_of(preset.loss), "weight", "warmup"} >= entries[name].keys(), name
        assert not preset.warmup or "warmup" in entries[name], name
    for name, wrapper in WRAPPERS.items():
        assert {*settings_of(wrapper.loss)} >= entries[name].keys(), name


@pytest.mark.parametrize("name", [*PRESETS, *(f"{wrapper}(kd)" for wrapper in WRAPPERS)])
def test_defaults_lie_inside_and_every_corner_can_be_read_at_every_length(name):
    found = space(name)  # reading a range refuses a default outside it
    check_space(found, name, (4,), CLASSES, Trust(own=frozenset([name])))
    written, usual = parse_method(found.text(found.defaults, 240)), parse_method(name)
    for term, other in zip(written.terms, usual.terms, strict=True):
        assert (term.weight, term.warmup, written.ce) == (other.weight, other.warmup, usual.ce)
        for key, one in vars(other.loss).items():
            if isinstance(one, int | float | str):
                assert getattr(term.loss, key) == one, key


def test_parameters_of_sums_and_wrappers_are_named_by_their_term_and_centred_on_what_is_written():
    text = "0.1*ce + 9*standardized(kd(temperature=2)) + 0.5*kd + sdd(dkd(warmup=8), weight=1.5)"
    found = space(text, lr=0.02)
    assert found.ranges["kd.weight"].default == 9
    assert found.ranges["kd.temperature"].default == 2
    assert found.ranges["kd_2.weight"].ends == (0.125, 2)
    assert found.ranges["sdd.weight"].default == 1.5
    assert found.ranges["dkd.warmup"].default == 8 / EPOCHS
    assert found.ranges["lr"].ends == (0.005, 0.08)
    values = {**found.defaults, "kd.weight": 4.5, "kd_2.temperature": 3.25, "dkd.warmup": 0.25, "lr": 0.03}
    written, settings = found.at(values, 12)
    assert written == (
        "0.1*ce + 4.5*standardized(kd(temperature=2)) + 0.5*kd(temperature=3.25) + "
        "1*sdd(dkd(warmup=3, beta=8, temperature=4), weight=1.5)"
    )
    assert (settings["epochs"], settings["lr"]) == (12, 0.03)
    parse_method(written)


def test_epochs_that_are_written_and_not_searched_are_compressed_with_the_run():
    entries = read_spaces() | {"dkd": {"beta": {"times": [0.5, 2]}}}
    found = space("dkd(warmup=10)", entries)
    assert found.text(found.defaults, EPOCHS) == "dkd(warmup=10, beta=8)"
    assert found.text(found.defaults, 4) == "dkd(warmup=1, beta=8)"


def test_without_cross_entropy_the_first_weight_is_not_searched():
    assert "pld.weight" not in space("pld").ranges
    assert "kd.weight" not in space("0*ce + kd").ranges
    assert {"kd.weight", "ldrld.weight"} & space("0*ce + kd + ldrld").ranges.keys() == {"ldrld.weight"}


def test_an_experiment_is_searched_where_it_is_written():
    assert "ldrld.mass" not in space("ldrld").ranges
    assert space("ldrld(mass=8)").ranges["ldrld.mass"].ends == (2, 32)


def test_a_loss_of_the_users_own_has_a_weight():
    assert [*space("ce + 2*mine.Cosine(margin=0.1)").ranges] == ["lr", "weight_decay", "cosine.weight"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kdd: {}", "there is no loss 'kdd'"),
        ("kd: {depth: {low: 1, high: 2}}", "kd has no parameter 'depth'; it has temperature"),
        ("settings: {seed: {low: 1, high: 2}}", "settings has no parameter 'seed'"),
        ("kd: [temperature]", "are no parameters"),
        ("- kd", "write names of losses"),
    ],
)
def test_a_space_file_that_names_what_does_not_exist_is_refused(tmp_path, text, words):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"space=.*{words}"):
        read_spaces(path)


def test_entries_of_a_file_replace_those_they_name(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("settings: {}\nkd: {temperature: {choices: [2, 4]}}\n")
    entries = read_spaces(path)
    assert space("kd(temperature=4)", entries).ranges.keys() == {"kd.temperature"}
    assert entries["dkd"] == read_spaces()["dkd"]
    with pytest.raises(InputError, match="has no parameter to tune"):
        space("ce", entries)


def test_a_corner_that_cannot_work_is_named():
    entries = read_spaces() | {"ldrld": {"depth": {"low": 2, "high": 200, "whole": True, "default": 7}}}
    with pytest.raises(InputError, match=r"L with ldrld.depth=200 and 4 epochs: .*200"):
        check_space(space("ldrld", entries), "L", (4,), CLASSES, Trust())
    entries = read_spaces() | {"settings": {"momentum": {"low": 0.5, "high": 1}}}
    with pytest.raises(InputError, match=r"K with momentum=1.0 and 4 epochs: momentum=1.0: give .*below 1"):
        check_space(space("kd", entries), "K", (4,), CLASSES, Trust())
