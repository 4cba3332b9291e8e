from __future__ import annotations

import re

import pytest

from stillroom.data.class_groups import chosen_classes, groups_among, read_groups, synset_groups, synset_of
from stillroom.errors import InputError

DOGS = ("n02085620 Chihuahua", "n02094433 Yorkshire terrier", "n02099601 golden retriever")
CLASSES = ("n01443537 goldfish", *DOGS, "n02123045 tabby", "n02129165 lion", "n04465501 tractor")


def test_a_wordnet_id_is_read_from_the_beginning_of_a_name():
    for name in ("n01443537", "n01443537 goldfish", "n01443537_goldfish", "n01443537-goldfish"):
        assert synset_of(name) == "n01443537"
    for name in ("goldfish", "n0144353", "n014435371", "xn01443537", "n01443537x"):
        assert synset_of(name) is None


def test_the_groups_are_disjoint_and_hold_what_their_names_say():
    groups = synset_groups()
    assert len(groups) == 17
    members = [synset for group in groups.values() for synset in group]
    assert len(members) == len(set(members))
    assert all(re.fullmatch(r"n\d{8}", synset) for synset in members)
    assert "n02085620" in groups["dog"]
    assert {"n02123045", "n02125311", "n02129165"} <= groups["feline"]


def test_a_set_has_the_groups_of_which_it_has_two_classes():
    assert groups_among(CLASSES) == {"dog": (1, 2, 3), "feline": (4, 5)}
    assert groups_among(("ant", "bee")) == {}
    own = {"pets": frozenset(["n02123045", "n01443537 goldfish"]), "alone": frozenset(["n04465501"])}
    assert groups_among(CLASSES, own) == {"pets": (0, 4)}


def test_classes_are_chosen_by_name_id_and_group_in_the_order_of_the_set():
    assert chosen_classes(["feline", "dog"], CLASSES) == (1, 2, 3, 4, 5)
    assert chosen_classes(["n04465501", "n01443537 goldfish"], CLASSES) == (0, 6)
    assert chosen_classes(["dog", "n02085620 Chihuahua"], CLASSES) == (1, 2, 3)
    assert chosen_classes(["dog", "cat"], ("cat", "dog", "fish")) == (0, 1), "without WordNet ids a class may be a dog"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            ["dogs"],
            r"only_classes: the data set has no class or group named dogs; did you mean dog\?.*its groups are dog",
        ),
        (["n01443537 goldfsh", "dog"], "named n01443537 goldfsh; did you mean n01443537 goldfish"),
        (["bottle", "dog"], "no class or group named bottle"),
        (["n01443537"], "only_classes chooses n01443537 goldfish; give two classes or more, or a group"),
        ([], "only_classes chooses no class"),
    ],
)
def test_what_cannot_be_chosen_is_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        chosen_classes(wanted, CLASSES)


def test_groups_of_the_user_are_read_from_a_file(tmp_path):
    (tmp_path / "groups.yaml").write_text('round: ["0", O, Q]\nstrokes: [I, l]\n')
    assert read_groups(tmp_path / "groups.yaml") == {
        "round": frozenset(["0", "O", "Q"]), "strokes": frozenset(["I", "l"]),
    }  # fmt: skip
    (tmp_path / "list.yaml").write_text("[a, b]")
    for name in ("list.yaml", "gone.yaml"):
        with pytest.raises(InputError, match=rf"groups=.*{name}.*write each group as NAME: \[class, class\]"):
            read_groups(tmp_path / name)
