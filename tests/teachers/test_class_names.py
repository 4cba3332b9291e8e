from __future__ import annotations

import json

import pytest

from stillroom.data.class_groups import synset_of
from stillroom.errors import InputError
from stillroom.teachers.class_names import imagenet_synsets, read_class_names, with_imagenet_words


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "cat\nfire truck \ncat\n\n"),
        ("names.txt", "\ufeffcat\r\nfire truck\r\ncat\r\n"),
        ("names.json", '["cat", "fire truck", "cat"]'),
        ("names.yaml", "[cat, fire truck, cat]"),
        ("names.yml", "1: fire truck\n0: cat\n2: cat\n"),
        ("names.json", '{"0": "cat", "1": "fire truck", "2": "cat"}'),
        ("config.json", json.dumps({"architectures": ["X"], "id2label": {"1": "fire truck", "0": "cat", "2": "cat"}})),
    ],
)
def test_names_are_read_in_the_order_of_the_outputs(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert read_class_names(tmp_path / name) == ("cat", "fire truck", "cat")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("names.txt", "", "holds no names: give one name a line"),
        ("names.yaml", "", "holds no names: give one name a line"),
        ("names.txt", "cat\n\ndog\n", "line 2 is empty: give every class a name"),
        ("names.json", '["cat", ""]', "index 1 is empty: give every class a name"),
        ("names.yaml", "[cat, no]", "index 1 is False, not text: write it in quotes"),
        ("names.json", '{"0": "cat", "2": "dog"}', "has 2 names but no index 1: number the classes from 0"),
        ("names.json", '{"cat": 0, "dog": 1}', "has 2 names but no index 0"),
        ("names.json", "[", r"cannot be read \(JSONDecodeError.*give one name a line"),
        ("names.yaml", "cat", "holds neither a list nor a mapping: give one name a line"),
    ],
)
def test_a_file_without_usable_names_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"teacher_classes=.*{name}.*{message}"):
        read_class_names(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"teacher_classes=.*gone.txt cannot be read \(No such file.*give one name"):
        read_class_names(tmp_path / "gone.txt")


def test_ids_of_imagenet_get_their_word_and_other_names_stay():
    ids = imagenet_synsets(1000)
    words = with_imagenet_words(ids)
    assert (words[0], words[134], words[517]) == ("n01440764 tench", "n02012849 crane", "n03126707 crane")
    assert [synset_of(word) for word in words] == list(ids)
    assert with_imagenet_words(("ant", *ids[1:]))[:2] == ("ant", "n01443537 goldfish")
    assert with_imagenet_words(("n01440764", "bee")) == ("n01440764", "bee")


def test_imagenet_is_known_by_its_number_of_classes():
    synsets = imagenet_synsets(1000)
    assert synsets is not None
    assert (len(set(synsets)), synsets[0], synsets[999]) == (1000, "n01440764", "n15075141")
    assert imagenet_synsets(200) is None
    assert len(imagenet_synsets(21843) or ()) == 21843
