import psutil
import pytest

from stillroom.data import glyphs100, load_data, named_sets
from stillroom.data.memory_limit import check_memory, copies_here
from stillroom.data.parquet import list_parquet
from stillroom.errors import InputError
from tests.data.image_files import png


@pytest.fixture
def free(monkeypatch):
    """Makes a machine with so much free memory."""

    def make(size):
        class Memory:
            available = size

        monkeypatch.setattr(psutil, "virtual_memory", Memory)

    return make


@pytest.fixture
def nothing_decoded(monkeypatch):
    def decode(*args, **kwargs):
        raise AssertionError("decoded although it does not fit")

    for name in ("_pixels", "decode_all"):
        monkeypatch.setattr(f"stillroom.data.decoding.{name}", decode)
    monkeypatch.setattr("stillroom.data.listing.decode_all", decode)
    monkeypatch.setattr(named_sets, "resize_all", decode)


@pytest.mark.usefixtures("nothing_decoded")
@pytest.mark.parametrize("image_size", [None, 4000])
def test_a_folder_that_does_not_fit_is_refused_before_the_first_image_is_decoded(image_folder, free, image_size):
    image_folder("train", count=10)
    root = image_folder("val", count=5)
    free(30 * 3 * (image_size or 8) ** 2 * 1.2)
    side = image_size or 8
    with pytest.raises(
        InputError, match=rf"30 images of .* at {side}x{side} pixels need .* lower image_size, keep .*source=files"
    ):
        load_data(root, image_size=image_size, source="memory")


@pytest.mark.usefixtures("nothing_decoded")
def test_what_is_wrong_besides_is_told_too(image_folder, free):
    root = image_folder(count=10)
    (root / "empty").mkdir()
    free(100)
    with pytest.raises(InputError, match=r"no images: empty.*20 images of .* need"):
        load_data(root, source="memory")


@pytest.mark.usefixtures("nothing_decoded")
def test_parquet_and_named_sets_are_refused_before_they_are_decoded_or_resized(
    tmp_path, parquet_file, free, monkeypatch
):
    parquet_file(tmp_path / "train.parquet", [0, 1] * 10)
    free(20 * 3 * 64)
    with pytest.raises(InputError, match=r"20 images of .* at 8x8"):
        load_data(tmp_path, source="memory")
    monkeypatch.setattr(named_sets, "glyphs100", lambda: glyphs100(0, 3, 2))
    free(500 * 3 * 1000**2)
    with pytest.raises(InputError, match=r"500 images of glyphs100 at 1000x1000 pixels need 1\.5 GB"):
        load_data("glyphs100", image_size=1000)


def test_what_is_in_memory_twice_counts(image_folder, free):
    """Images held out, and those selected while the whole set is still there."""
    root = image_folder(count=10)
    once = 20 * 3 * 64 / 0.8
    free(1.41 * once)
    load_data(root, val_fraction=0.4)
    with pytest.raises(InputError, match="20 images"):
        load_data(root, val_fraction=0.5, source="memory")
    load_data(root, val_fraction=0.2, per_class=2)
    with pytest.raises(InputError, match="20 images"):
        load_data(root, val_fraction=0.2, per_class=3, source="memory")


def test_processes_of_one_machine_share_its_memory(image_folder, free, monkeypatch):
    root = image_folder(count=10)
    free(20 * 3 * 64 * 1.1 / 0.8 * 4)
    load_data(root, copies=4)
    with pytest.raises(InputError, match=r"need .* GB of memory in each of 5 processes .* start fewer processes"):
        load_data(root, copies=5, source="memory")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    with pytest.raises(InputError, match="each of 5 processes"):
        load_data(root, source="memory")
    monkeypatch.setenv("LOCAL_RANK", "1")  # the first has asked for all, and its copy is no longer free memory
    load_data(root)


def test_without_torchrun_there_is_one_copy(monkeypatch):
    for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert copies_here() == 1
    check_memory(psutil.virtual_memory().available // 2, "half")


def test_rows_of_large_images_are_read_a_few_at_a_time(tmp_path, parquet_file, image, monkeypatch):
    encoded = [png(image(number)) + bytes(20_000) for number in range(40)]
    parquet_file(tmp_path / "train.parquet", [0, 1] * 20, encoded=encoded)
    monkeypatch.setattr("stillroom.data.parquet_file.CHUNK_BYTES", 5 * 20_500)
    listing, _ = list_parquet([tmp_path / "train.parquet"], [])
    sizes = [len(chunk) for chunk in listing.chunks()]
    assert sum(sizes) == 40
    assert max(sizes) <= 6
