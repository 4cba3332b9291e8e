from __future__ import annotations

import pytest

from stillroom.config import make_recipe
from stillroom.data import load_data
from stillroom.prepare.validation_crop import with_crop_of_run, with_published_crop
from stillroom.trust import given
from tests.conftest import colour_folder


@pytest.mark.parametrize(("source", "cropped"), [("files", True), ("memory", False)])
def test_images_in_files_get_the_published_crop_and_a_line_says_so(tmp_path, source, cropped):
    name, said = "timm:test_resnet", []
    data = load_data(colour_folder(tmp_path, 4, 20), image_size=16, source=source)
    found = with_published_crop(data, name, given([name], files=False), said.append)
    assert (found is not data, len(said)) == (cropped, cropped)
    if cropped:
        assert found.val.framing.crop_fraction == 0.95
        assert "crop_fraction=0.95" in said[0]


@pytest.mark.parametrize(
    ("settings", "fraction"),
    [({}, 0.875), ({"crop_fraction": 1.0}, 1.0), ({"source": "memory"}, None), ({"data": "cifar10"}, None)],
)
def test_the_crop_of_a_run_yields_to_the_settings_and_to_memory(tmp_path, settings, fraction):
    (tmp_path / "config.yaml").write_text("crop_fraction: 0.875\n")
    (tmp_path / "inputs.json").write_text("{}")
    (tmp_path / "summary.json").write_text("{}")
    recipe = make_recipe("train", {"model": str(tmp_path), "data": "photos", **settings})
    assert with_crop_of_run(recipe).data.crop_fraction == fraction
