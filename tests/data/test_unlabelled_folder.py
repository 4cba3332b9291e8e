import pytest

from stillroom.data import load_data
from stillroom.data.unlabelled_folder import list_unlabelled_folder
from stillroom.errors import InputError

CLASSES = ("ant", "bee")


def flat(folder, image, first=0, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        image(number).save(folder / f"{number}.png")


def test_images_at_any_depth_are_taken_and_some_are_held_out(tmp_path, image):
    flat(tmp_path, image)
    flat(tmp_path / "2025" / "may", image, 6)
    flat(tmp_path / "unlabelled", image, 12)
    data = load_data(tmp_path, labels="none", classes=CLASSES, val_fraction=0.3)
    assert len(data.train) + len(data.val) == 18
    assert len(data.val) > 0
    assert data.train.classes == CLASSES
    assert (data.train.unlabelled, data.val.unlabelled) == (len(data.train), len(data.val))


def test_class_folders_say_nothing(image_folder):
    data = load_data(image_folder(classes=("x", "y", "z")), labels="none", classes=CLASSES)
    assert data.train.classes == CLASSES
    assert data.train.unlabelled == len(data.train)


def test_validation_images_in_class_folders_keep_their_labels(image_folder):
    image_folder("train", classes=("x", "y"))
    train, val = list_unlabelled_folder(image_folder("val"), classes=("other", "classes"))
    assert set(train.labels.tolist()) == {-1}
    assert [name.split("/")[0] for name in train.names] == ["train"] * 6
    assert val.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert train.classes == val.classes == ("ant", "bee")


@pytest.mark.parametrize("train", ["train", "unlabelled", ""])
def test_flat_validation_images_have_no_labels(tmp_path, image, train):
    flat(tmp_path / train, image)
    flat(tmp_path / "val", image, 6, 3)
    data = load_data(tmp_path, labels="none", classes=CLASSES)
    assert (len(data.train), len(data.val), data.val.unlabelled) == (6, 3, 3)


def test_classes_that_nothing_names_are_an_error(tmp_path, image):
    flat(tmp_path / "train", image)
    with pytest.raises(InputError, match=r"nothing names the classes .* teacher whose classes are known.*val/CLASS"):
        load_data(tmp_path, labels="none")


def test_a_named_or_labelled_set_gives_its_training_images_without_labels(tmp_path, parquet_file):
    parquet_file(tmp_path / "train.parquet", [0, 1, 0, 1])
    parquet_file(tmp_path / "val.parquet", [1, 0])
    data = load_data(tmp_path, labels="none", per_class=1)
    assert (data.train.labels.tolist(), data.val.labels.tolist()) == ([-1, -1], [1, 0])


def test_selections_need_labels(tmp_path, image):
    flat(tmp_path, image)
    with pytest.raises(InputError, match="select by label, and no image has one"):
        load_data(tmp_path, labels="none", classes=CLASSES, per_class=1)
