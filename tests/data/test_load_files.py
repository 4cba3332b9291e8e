import pytest
import torch

from stillroom.data import load_data
from stillroom.errors import InputError


def test_images_that_differ_in_size_require_one(image_folder, image):
    root = image_folder()
    image(1, (12, 8)).save(root / "ant" / "wide.png")
    with pytest.raises(InputError, match=r"images of .* differ in size \(.*12x8.*\); give image_size"):
        load_data(root, source="files")
    assert load_data(root, source="files", image_size=6).train.shape == (3, 6, 6)


def test_unreadable_images_are_refused_or_left_out_as_from_memory(image_folder):
    root = image_folder(count=8)
    (root / "ant" / "3.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1 of 16 images cannot be read: ant/3.png \(not an image\).*skip_broken"):
        load_data(root, source="files")
    sets = [load_data(root, source=kind, skip_broken=0.1) for kind in ("memory", "files")]
    assert sets[0].broken == sets[1].broken == ("ant/3.png",)
    for side in ("train", "val"):
        one, other = (getattr(data, side) for data in sets)
        assert torch.equal(one.ids, other.ids)


def test_selections_are_those_from_memory(image_folder):
    root = image_folder(classes=("ant", "bee", "cat"), count=8)
    one, other = (load_data(root, source=kind, first_classes=2, per_class=3) for kind in ("memory", "files"))
    assert torch.equal(one.train.ids, other.train.ids)
    assert one.train.classes == other.train.classes == ("ant", "bee")


def test_validation_cuts_the_centre(image_folder):
    data = load_data(image_folder(size=(20, 16)), source="files", image_size=8, crop_fraction=0.5)
    assert data.val.framing.crop_fraction == 0.5
    assert data.val.pixels(torch.arange(len(data.val))).shape == (len(data.val), 3, 8, 8)
