from __future__ import annotations

import pytest
from benchmarks.synset_groups import close_groups, read_nouns


def noun(synset, word, *hypernyms):
    pointers = " ".join(f"@ {above:08} n 0000" for above in hypernyms)
    words = f"01 {word} 0" if isinstance(word, str) else f"{len(word):02x} " + " ".join(f"{one} 0" for one in word)
    return f"{synset:08} 05 n {words} {len(hypernyms):03} {pointers} | what it is\n"


@pytest.fixture(scope="module")
def nouns():
    """A chain 1 to 9; below 9 the dogs, below 7 also a fish."""
    chain = [noun(number, f"step_{number}", *([number - 1] if number > 1 else [])) for number in range(1, 9)]
    dogs = [noun(9, ["domestic_dog", "dog"], 8), *(noun(number, f"breed_{number}", 9) for number in (21, 22, 23))]
    return read_nouns(["  1 the licence\n", *chain, *dogs, noun(24, "fish", 7), noun(25, "other_breed", 9)])


def names(*numbers):
    return [f"n{number:08}" for number in numbers]


def test_nouns_are_read_with_their_first_word_and_hypernyms(nouns):
    assert nouns.words["n00000009"] == "domestic dog"
    assert nouns.hypernyms["n00000009"] == names(8)
    assert nouns.hypernyms["n00000001"] == []


def test_a_group_is_the_lowest_synset_of_its_classes_and_lists_the_others_below_it(nouns):
    found = close_groups(nouns, names(21, 22, 23), names(25))
    assert found == {"domestic dog": ("n00000009", names(21, 22, 23, 25))}


def test_a_part_of_a_larger_group_and_what_is_near_the_root_are_no_groups(nouns):
    assert close_groups(nouns, names(21, 22, 23, 24)) == {"domestic dog": ("n00000009", names(21, 22, 23))}
    assert close_groups(nouns, names(21, 22)) == {}
