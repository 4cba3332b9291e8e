from __future__ import annotations

import shutil

import pytest
import yaml
from PIL import Image

from stillroom.compare import cell_checks, run_cell
from stillroom.compare.cell_checks import check_cells
from stillroom.compare.grid import make_grid
from stillroom.compare.grid_record import joined_record, write_record
from stillroom.compare.options import CompareOptions
from stillroom.compare.run_cell import train_cell
from stillroom.errors import InputError
from stillroom.prepare.load_dataset import load_dataset
from tests.conftest import colour_folder


def grid_of(photos, runs, teacher="stillroom.models.demo_nets:small", methods="kd", **more):
    options = CompareOptions(
        teachers=str(teacher), students="stillroom.models.demo_nets:small", methods=methods, seeds=1, teacher_epochs=2
    )
    settings = {"epochs": 1, "batch_size": 8, "accelerator": "cpu", "precision": "32"}
    return make_grid(options, {**settings, "data": str(photos), "runs": str(runs), "name": "c", **more})


def test_images_that_are_left_out_are_named(tmp_path):
    (tmp_path / "photos").mkdir()
    photos = colour_folder(tmp_path / "photos", count=6, side=8)
    for number in range(12):
        next(photos.rglob("*.png")).with_name(f"broken{number}.png").write_bytes(b"")
    grid = grid_of(photos, tmp_path, skip_broken=0.9)
    found = [note for note in check_cells(grid, grid.cells) if note.startswith("left out: ")]
    assert len(found) == 11
    assert "broken0.png" in found[0]
    assert found[-1] == "left out: 2 more that cannot be read"


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """A folder with images and a comparison that is finished; nothing may be written there."""
    top = tmp_path_factory.mktemp("worked")
    (top / "photos").mkdir()
    grid = grid_of(colour_folder(top / "photos", count=6, side=8), top)
    write_record(grid.folder, joined_record(grid))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "0")
        for cell in grid.cells:
            assert not train_cell(cell, top / "log.txt", 1, 0).problem
    return top


@pytest.fixture
def copy(worked, tmp_path):
    return shutil.copytree(worked, tmp_path / "copy")


def asked(grid, todo="dkd"):
    joined_record(grid)
    return check_cells(grid, [cell for cell in grid.cells if todo in cell.name])


def test_images_may_lie_elsewhere_but_not_be_others(copy, tmp_path):
    moved = shutil.copytree(copy / "photos", tmp_path / "elsewhere")
    asked(grid_of(moved, copy, methods="kd,dkd"))
    asked(grid_of(moved, copy), todo="nothing")
    first = next(moved.rglob("*.png"))
    Image.new("RGB", (8, 8)).save(first)
    for todo in ("dkd", "nothing"):
        with pytest.raises(InputError, match="holds a comparison on other data"):
            asked(grid_of(moved, copy, methods="kd,dkd"), todo)


def test_a_teacher_of_the_same_name_with_other_weights_is_refused(copy, tmp_path):
    shutil.copytree(copy / "c" / "small-s0", copy / "own" / "big")
    grid = grid_of(copy / "photos", copy, copy / "own" / "big", "ce")
    asked(grid, todo="ce")
    weights = copy / "own" / "big" / "student.safetensors"
    config = copy / "c" / "small-from-small-kd-s0" / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"teacher": str(copy / "own" / "big")}))
    shutil.copyfile(copy / "c" / "small-from-small-kd-s0" / "student.safetensors", weights)
    with pytest.raises(InputError, match="has other weights now than in small-from-small-kd-s0"):
        asked(grid, todo="ce")


def test_a_cell_that_was_begun_with_other_settings_is_refused_before_anything_is_written(copy):
    run = copy / "c" / "small-from-small-kd-s0"
    (run / "summary.json").unlink()
    grid = grid_of(copy / "photos", copy)
    asked(grid, todo="kd")
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"lr": 7.0}))
    with pytest.raises(InputError, match=r"small-from-small-kd-s0 was begun with other settings \(lr 7.0 there"):
        asked(grid, todo="kd")


def test_methods_that_differ_in_augmentation_share_the_images(worked, tmp_path, monkeypatch):
    loaded = []

    def load(options, *arguments, **named):
        loaded.append(options)
        return load_dataset(options, *arguments, **named)

    for module in (cell_checks, run_cell):
        monkeypatch.setattr(module, "load_dataset", load)
    run_cell._latest.clear()
    methods = {"KD": "kd"} | {f"KD {name}": {"method": "kd", name: 0.2} for name in ("mixup", "erase")}
    options = CompareOptions(
        teachers=str(worked / "c" / "small-s0"), students="stillroom.models.demo_nets:small",
        methods=methods, seeds=1,
    )  # fmt: skip
    settings = {"data": str(worked / "photos"), "runs": str(tmp_path), "name": "c", "batch_size": 8, "epochs": 1}
    grid = make_grid(options, {**settings, "accelerator": "cpu", "precision": "32"})
    check_cells(grid, grid.cells)
    assert len(loaded) == 1
    for cell in grid.cells:
        assert not train_cell(cell, tmp_path / "log.txt", 1, 0).problem
    assert len(loaded) == 2
    assert {cell.run.config()["erase"] for cell in grid.cells} == {0.0, 0.2}
