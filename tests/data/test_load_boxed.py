import pytest
import torch

from stillroom.data import describe_sets
from stillroom.data.boxed_source import BoxedSource
from stillroom.data.load_boxed import holds_boxes, load_boxed
from stillroom.data.scene_drawing import CLASSES, NATURAL_SIDE
from stillroom.errors import InputError
from tests.data.boxed_folders import found_in, write_coco


def test_a_folder_is_a_data_set_with_imagenets_statistics_and_a_flip(tmp_path):
    folder = write_coco(tmp_path / "insects")
    data = load_boxed(folder, image_size=32)
    assert data.name == "insects"
    assert isinstance(data.train, BoxedSource)
    assert (data.train.image_size, data.train.max_size) == (32, 53)
    assert data.mean == (0.485, 0.456, 0.406)
    assert (data.augment.flip, data.augment.pad) == (True, 0)
    assert set(found_in(data.val)) == {"d", "e"}
    default = load_boxed(folder)
    assert (default.train.image_size, default.train.max_size) == (800, 1333)


def test_images_of_both_splits_are_told(tmp_path):
    folder = write_coco(tmp_path)
    (folder / "val2017" / "d.jpg").write_bytes((folder / "train2017" / "a.jpg").read_bytes())
    with pytest.raises(InputError, match=r"annotated as 40x40, is 40x30"):
        load_boxed(folder)
    (folder / "train2017" / "c.jpg").write_bytes((folder / "val2017" / "e.jpg").read_bytes())
    (folder / "val2017" / "d.jpg").unlink()
    with pytest.raises(InputError, match=r"d.jpg \(missing\)"):
        load_boxed(folder)


def test_scenes_have_as_many_as_their_name_says(monkeypatch, tmp_path):
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    (row,) = (row for row in describe_sets() if row.name == "scenes")
    assert (row.classes, row.size) == (len(CLASSES), NATURAL_SIDE)
    data = load_boxed("scenes:10", image_size=48, max_size=100)
    assert (data.name, len(data.train), len(data.val)) == ("scenes", 10, 2)
    assert data.train.classes == CLASSES
    assert (data.train.image_size, data.train.max_size) == (48, 100)
    assert data.train.pixels(torch.tensor([3])).shape == (1, 3, 48, 48)
    assert data.repeated == frozenset()


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"image_size": 0}, "image_size is 0"), ({"image_size": 64, "max_size": 32}, "image_size is 64 and max_size 32")],
)
def test_sizes_that_do_not_fit_are_refused(options, problem, tmp_path):
    with pytest.raises(InputError, match=problem):
        load_boxed(write_coco(tmp_path), **options)


def test_data_with_boxes_are_recognised(tmp_path, image_folder):
    assert holds_boxes("scenes")
    assert holds_boxes("scenes:50")
    assert holds_boxes(write_coco(tmp_path / "insects"))
    assert not holds_boxes("glyphs100")
    for name in (tmp_path / "none", "x" * 5000, "~nobody-of-this-name/data"):
        assert not holds_boxes(name)
    assert not holds_boxes(image_folder("classes") / "classes")
    with pytest.raises(InputError, match="such as scenes:500"):
        holds_boxes("scenes:many")
