import psutil
import pytest

from stillroom.data import load_data
from stillroom.errors import InputError


@pytest.fixture
def little_memory(monkeypatch):
    class Memory:
        available = 100

    monkeypatch.setattr(psutil, "virtual_memory", Memory)


@pytest.mark.usefixtures("little_memory")
def test_a_set_that_does_not_fit_is_read_from_files_and_a_note_says_so(image_folder):
    data = load_data(image_folder(count=10))
    assert (data.train.kind, data.val.kind) == ("files", "files")
    (note,) = data.notes
    assert note.startswith("20 images at 8x8 pixels need 0.0 GB of memory")
    assert note.endswith("(source=files)")


def test_a_set_that_fits_is_held_in_memory(image_folder):
    data = load_data(image_folder(count=10))
    assert (data.train.kind, data.notes) == ("memory", ())


@pytest.mark.usefixtures("little_memory")
def test_memory_can_be_forced(image_folder):
    with pytest.raises(InputError, match=r"20 images of .* need .*source=files"):
        load_data(image_folder(count=10), source="memory")


def test_files_can_be_forced(image_folder):
    data = load_data(image_folder(count=10), source="files")
    assert (data.train.kind, data.notes) == ("files", ())


@pytest.mark.parametrize(
    ("setting", "text"), [({"crop_fraction": 0.5}, "crop_fraction=0.5"), ({"scaled_decoding": True}, "scaled_decoding")]
)
def test_settings_for_files_choose_them(image_folder, setting, text):
    root = image_folder(count=10)
    data = load_data(root, image_size=8, **setting)
    assert data.train.kind == "files"
    assert text in data.notes[0]
    with pytest.raises(InputError, match=f"source=memory with {text}"):
        load_data(root, image_size=8, source="memory", **setting)


def test_a_set_that_is_drawn_has_no_files():
    with pytest.raises(InputError, match="glyphs100 is held in memory; leave out source=files"):
        load_data("glyphs100", source="files")
