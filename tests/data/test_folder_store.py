import os
import pickle
from pathlib import Path

import pytest

from stillroom.data.folder_store import FileNames, FolderStore
from stillroom.data.image_folder import list_image_folder
from stillroom.data.set_index import indexed
from stillroom.errors import InputError


def test_names_come_back_as_they_were_with_any_bytes():
    given = ["ant/ä.png", os.fsdecode(b"bee/\xff.png"), "", "c"]
    names = FileNames(given)
    assert list(names) == given
    assert [names[place] for place in (0, 1, -1)] == [given[0], given[1], "c"]
    assert names[1:3] == given[1:3]
    assert names == given
    assert names != given[:3]


def test_a_store_that_is_not_indexed_gives_paths(image_folder):
    root = image_folder()
    store = list_image_folder(root)[0].store
    assert store[0] == root / "ant" / "0.png"
    assert len(store) == 6


@pytest.fixture
def checked(image_folder, tmp_path):
    """An indexed folder: its root, its listing and a function that indexes again."""
    root = image_folder("set", count=3) / "set"

    def index():
        return indexed(list_image_folder(root)[0], cache=tmp_path / "cache")

    return root, index


def test_an_indexed_store_gives_bytes_also_after_pickling(checked):
    root, index = checked
    store = pickle.loads(pickle.dumps(index().store))
    assert store[1] == (root / "ant" / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), r"ant/1\.png has vanished since"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), r"ant/1\.png was cut short \(20 of \d+ bytes\)"),
        (lambda path: path.write_bytes(path.read_bytes() + b"more"), r"ant/1\.png has changed since"),
        (lambda path: (path.unlink(), os.mkfifo(path)), r"ant/1\.png cannot be read \(a pipe"),
    ],
)
def test_a_file_that_changes_during_a_run_is_named_and_looked_at_anew(checked, damage, words):
    root, index = checked
    store = index().store
    damage(root / "ant" / "1.png")
    assert store[0] == (root / "ant" / "0.png").read_bytes()
    with pytest.raises(InputError, match=words + ".*; put the file back as it was, or start again"):
        store[1]
    assert isinstance(store, FolderStore)
    assert isinstance(store.index, Path)
    assert not store.index.exists()


def test_a_file_edited_in_place_belongs_to_the_next_index(checked, image):
    root, index = checked
    before = index()
    image(50, (9, 9)).save(root / "ant" / "1.png")
    with pytest.raises(InputError, match="has changed"):
        before.store[1]
    after = index()
    assert after.digests[1] != before.digests[1]
    assert after.store[1] == (root / "ant" / "1.png").read_bytes()
