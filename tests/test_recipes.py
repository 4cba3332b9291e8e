from __future__ import annotations

import math
import re
import subprocess
import sys
from functools import cache

import pytest
import yaml

from stillroom import distill, recipes, train
from stillroom.config import DataOptions, OptimOptions, RunOptions, make_recipe
from stillroom.data import describe_sets
from stillroom.data.photo_generator import write_photos
from stillroom.errors import InputError
from stillroom.methods import parse_method
from stillroom.models import build_model, save_weights
from stillroom.models.detectors import describe_detectors
from stillroom.models.zoo import ZOO
from stillroom.optimizer_names import MOMENTUM_SGD
from stillroom.recipes import (
    load_published,
    own_recipes,
    published_recipes,
    recipe_files,
    recipe_settings,
    recipes_folder,
    with_recipe,
)
from stillroom.settings import settings_in
from tests.conftest import tiny_model

OWN = sorted(recipes_folder().glob("*.yaml"))
ALL = sorted(set(recipes_folder().rglob("*.yaml")) - set(OWN))
WRAPPED = {"lskd": "standardized", "sdd": "sdd"}

# Accuracies as their authors published them; the project's table, copied once. The gaps are gaps there.
COLUMNS = ["kd", "ctkd", "nkd", "wttm", "dkd", "mlkd", "lskd-kd", "lskd-dkd", "lskd-mlkd", "ldrld"]
TABLE = """
resnet56-resnet20      | 70.66 | 71.19 | 71.18 | 71.92 | 71.97 | 72.19 | 71.43 | 72.32 | 72.33 | 72.20
resnet110-resnet20     | 70.67 | 70.99 | 71.26 | 71.67 | 71.06 | 71.89 | 71.48 | 71.85 | 72.27 | 71.98
resnet110-resnet32     | 73.08 | 73.52 |       |       | 74.11 | 74.11 | 74.17 | 74.29 | 74.32 |
resnet32x4-resnet8x4   | 73.33 | 73.39 | 76.35 | 76.06 | 76.32 | 77.08 | 76.62 | 77.01 | 78.28 | 77.20
wrn_40_2-wrn_16_2      | 74.92 | 75.45 | 75.43 | 76.37 | 76.24 | 76.63 | 76.11 | 76.39 | 76.95 | 76.35
wrn_40_2-wrn_40_1      | 73.54 | 73.93 |       |       | 74.81 | 75.35 | 74.37 | 74.89 | 75.56 |
vgg13-vgg8             | 72.98 | 73.52 | 74.86 | 74.44 | 74.68 | 75.18 | 74.36 | 74.81 | 75.22 | 75.06
resnet32x4-ShuffleV1   | 74.07 |       | 76.31 |       | 76.45 |       |       |       |       | 76.46
resnet32x4-ShuffleV2   | 74.45 | 75.37 |       |       | 77.07 | 78.44 | 75.56 | 77.37 | 78.76 |
wrn_40_2-ShuffleV1     | 74.83 |       |       |       | 76.70 |       |       |       |       |
vgg13-MobileNetV2      | 67.37 | 68.50 |       |       | 69.71 | 70.57 | 68.61 | 69.98 | 70.94 |
ResNet50-MobileNetV2   | 67.35 | 68.67 |       |       | 70.35 | 71.04 | 69.02 | 70.45 | 71.19 |
"""
BEYOND_CIFAR = {
    "imagenet/resnet34-resnet18/kd": 70.66,
    "imagenet/resnet34-resnet18/dkd": 71.70,
    "imagenet/resnet34-resnet18/wttm": 72.19,
    "imagenet/resnet34-resnet18/ldrld": 71.88,
    "imagenet/resnet50-mobilenetv1_100/kd": 70.49,
    "imagenet/resnet50-mobilenetv1_100/dkd": 72.05,
    "imagenet/resnet50-mobilenetv1_100/wttm": 73.09,
    "imagenet/resnet50-mobilenetv1_100/ldrld": 73.12,
    "tiny-imagenet/ResNet18-MobileNetV2/kd": 58.35,
    "tiny-imagenet/ResNet18-ShuffleV2/kd": 62.26,
    "cifar100/resnet32x4-resnet8x4/kd-dot": 75.12,
    "tiny-imagenet/ResNet18-MobileNetV2/kd-dot": 64.01,
    "imagenet/resnet50-mobilenetv1_100/kd-dot": 73.09,
    "cub200/vgg13-vgg8/kd": 64.18,
    "cub200/vgg13-vgg8/dkd": 67.20,
    "cub200/vgg13-vgg8/sdd-kd": 67.32,
    "cub200/vgg13-vgg8/sdd-dkd": 68.67,
}


def published_numbers() -> dict[str, float]:
    numbers = dict(BEYOND_CIFAR)
    for row in TABLE.strip().splitlines():
        pair, *cells = (cell.strip() for cell in row.split("|"))
        numbers |= {f"cifar100/{pair}/{m}": float(n) for m, n in zip(COLUMNS, cells, strict=True) if n}
    return numbers


def test_every_yaml_file_is_a_recipe_in_its_place():
    assert recipe_files() == ALL
    assert len(ALL) > 300


@pytest.mark.parametrize("path", ALL, ids=lambda path: "/".join(path.with_suffix("").parts[-3:]))
def test_a_recipe_can_be_run_and_says_where_it_comes_from(path):
    recipe = load_published(path)
    made = make_recipe("distill", recipe.settings)
    settings = recipe.settings
    assert not {"seed", "name"} & settings.keys()
    assert made.optim.optimizer in MOMENTUM_SGD
    assert {"epochs", "batch_size", "lr", "weight_decay"} <= settings.keys()
    assert made.optim.schedule == settings.get("schedule", "milestones"), "as published, whatever the default is"
    assert (made.optim.lr, made.optim.nesterov) == (settings["lr"], settings.get("nesterov", False))
    if made.optim.schedule == "cosine":
        assert 0 < settings["warmup_epochs"] < settings["epochs"]
    else:
        assert all(0 < milestone < settings["epochs"] for milestone in settings["milestones"])
    detects = settings.get("task") == "detection"
    known = set(ZOO) | set(describe_detectors() if detects else ())
    for model in (settings["teacher"], settings["student"]):
        assert model in known or model.startswith(("timm:", "torchvision:"))
    assert detects or settings["data"] in {known.name for known in describe_sets()}

    # the file's place says the same as its content
    dataset, pair, method = recipe.name.split("/")
    assert dataset in settings["data"]
    assert pair == "-".join(model.split(":")[-1].split(".")[0] for model in (settings["teacher"], settings["student"]))
    names = [*re.findall(r"[a-z_]+", settings["method"]), made.optim.optimizer]
    names += ["baseline"] if settings["method"] == "supervised" else []
    assert {WRAPPED.get(part, part) for part in method.split("-")} <= set(names)

    assert recipe.score is None or 0 < recipe.score < 100
    assert detects == (recipe.ap is not None)
    assert recipe.source
    assert recipe.score is not None or recipe.epoch == "unknown"
    assert parse_method(settings["method"]).needs_teacher == (method != "baseline")


def test_the_imagenet_recipes_show_images_as_published():
    for recipe in published_recipes("imagenet"):
        data, run = (getattr(make_recipe("distill", recipe.settings), group) for group in ("data", "run"))
        assert (data.source, data.image_size, run.batch_norm) == ("files", 224, "per_process")
        assert (data.pad, data.flip, data.min_scale) == (0, True, 0.08)
        modern = recipe.settings.get("schedule") == "cosine"
        assert round(data.image_size / data.crop_fraction) == (232 if modern else 256)


@pytest.fixture(scope="module")
def small_imagenet(tmp_path_factory):
    """Seven classes, as LDRLD's depth requires, in ImageNet's layout, and a function: weights of a random network."""
    folder = tmp_path_factory.mktemp("imagenet")
    write_photos(folder, 7, 2, 1, size=(48, 40), processes=1)
    images = sorted((folder / "val").glob("*/*.JPEG"))
    for number, image in enumerate(images, start=1):
        image.rename(folder / "val" / f"ILSVRC2012_val_{number:08}.JPEG")
        image.parent.rmdir()
    truth = "".join(f"{image.parent.name}\n" for image in images)
    (folder / "imagenet_2012_validation_synset_labels.txt").write_text(truth)

    @cache
    def weights(name):
        save_weights(build_model(name, num_classes=7), folder / f"{name.split(':')[1]}.safetensors")
        return str(folder / f"{name.split(':')[1]}.safetensors")

    return folder, weights


@pytest.mark.parametrize(
    "path", [path for path in ALL if "imagenet" in path.parts], ids=lambda path: "/".join(path.parts[-2:])
)
def test_an_imagenet_recipe_trains_a_few_steps(path, small_imagenet, tmp_path):
    folder, weights = small_imagenet
    settings = load_published(path).settings
    side = 64 if path.stem == "catkd" else 32  # it needs a last map of more than one pixel
    short = {"epochs": 2, "batch_size": 7, "image_size": side, "teacher_image_size": side, "workers": 0}
    cosine = settings.get("schedule") == "cosine"
    short |= {"warmup_epochs": 1} if cosine else {"milestones": [1], "warmup_epochs": 0}
    if path.stem not in ("reviewkd", "ofd", "catkd"):  # these need layers of the published networks
        short |= {"teacher": "timm:test_resnet", "student": "resnet8"}
    settings |= short
    result = distill(
        **settings | {"data": str(folder), "runs": str(tmp_path), "name": "run"},
        teacher_checkpoint=weights(settings["teacher"]), accelerator="cpu", precision="32",
    )  # fmt: skip
    config = result.record.config()
    assert config["classes"] == [f"n{number:08}" for number in range(7)]
    assert (config["source"], config["crop_fraction"]) == ("files", settings["crop_fraction"])
    assert math.isfinite(result.record.summary()["last"]["loss"])


@pytest.mark.parametrize(("name", "top1"), published_numbers().items())
def test_the_published_table_is_complete_and_exact(name, top1):
    assert load_published(recipes_folder() / f"{name}.yaml").top1 == top1


# Average precision on COCO: labels only, KD, ReviewKD, DKD, DKD + ReviewKD.
DETECTORS = {
    "fasterrcnn_resnet101_fpn-fasterrcnn_resnet18_fpn": (33.26, 33.97, 36.75, 35.05, 37.01),
    "fasterrcnn_resnet101_fpn-fasterrcnn_resnet50_fpn": (37.93, 38.35, 40.36, 39.25, 40.65),
    "fasterrcnn_resnet50_fpn-fasterrcnn_mobilenetv2_fpn": (29.47, 30.13, 33.71, 32.34, 34.35),
}


@pytest.mark.parametrize("pair", DETECTORS)
def test_the_published_average_precision_is_complete_and_exact(pair):
    found = {recipe.method: recipe.ap for recipe in published_recipes("coco") if recipe.name.split("/")[1] == pair}
    names = ("baseline", "kd", "reviewkd", "dkd", "dkd-reviewkd")
    assert found == dict(zip(names, DETECTORS[pair], strict=True))


def test_the_thirteen_pairs_of_the_standard_table():
    pairs = {recipe.name.split("/")[1] for recipe in published_recipes(dataset="cifar100", method="kd")}
    assert pairs == {row.split("|")[0].strip() for row in TABLE.strip().splitlines()} | {"ResNet50-vgg8"}


@pytest.mark.parametrize("student", ["MobileNetV2", "ShuffleV1", "ShuffleV2"])
def test_small_students_learn_at_their_lower_rate(student):
    assert {recipe.settings["lr"] for recipe in published_recipes("cifar100", student=student)} == {0.01}


def test_a_whole_name_takes_only_itself():
    assert {recipe.method for recipe in published_recipes(method="kd")} == {"kd"}
    assert {recipe.dataset for recipe in published_recipes(dataset="imagenet")} == {"imagenet"}
    assert {recipe.settings["student"] for recipe in published_recipes(student="resnet32")} == {"resnet32"}
    assert {recipe.settings["teacher"] for recipe in published_recipes(teacher="resnet34")} == {"torchvision:resnet34"}


def test_part_of_a_name_takes_all_that_contain_it():
    assert {recipe.method for recipe in published_recipes(method="LSKD")} == {"lskd-kd", "lskd-dkd", "lskd-mlkd"}
    assert {recipe.settings["student"] for recipe in published_recipes(student="shuffle")} == {"ShuffleV1", "ShuffleV2"}
    assert published_recipes(method="nothing") == []


def test_filters_add_up_and_the_order_is_by_name():
    found = published_recipes("cifar100", "resnet32x4", "resnet8x4", "ldrld")
    assert [recipe.name for recipe in found] == ["cifar100/resnet32x4-resnet8x4/ldrld"]
    names = [recipe.name for recipe in published_recipes()]
    assert names == sorted(names)
    assert len(names) == len(ALL)


GOOD = {"teacher": "a", "student": "b", "published": {"top1": 70, "source": "a table", "epoch": "last"}}


def write(folder, content):
    path = folder / "set" / "a-b" / "kd.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_what_a_file_says_comes_back(tmp_path):
    recipe = load_published(write(tmp_path, GOOD))
    assert recipe.settings == {"teacher": "a", "student": "b"}
    assert (recipe.name, recipe.dataset, recipe.method) == ("set/a-b/kd", "set", "kd")
    assert (recipe.top1, recipe.source, recipe.epoch, recipe.note) == (70.0, "a table", "last", "")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top1": 101}, "published.top1=101"),
        ({"top1": "70"}, "published.top1='70'"),
        ({"top1": True}, "published.top1=True"),
        ({"top1": float("nan")}, "published.top1=nan"),
        ({"source": " "}, "published.source=' '"),
        ({"epoch": "first"}, "one of best, last, unknown"),
        ({"epoch": ["best"]}, "one of best, last, unknown"),
        ({"note": 3}, "published.note=3"),
        ({"top5": 90}, "published.top5 is unknown"),
        ({"ap": 30}, "published has both top1 and ap"),
    ],
)
def test_a_wrong_value_is_one_clear_line(tmp_path, changes, says):
    path = write(tmp_path, GOOD | {"published": GOOD["published"] | changes})
    with pytest.raises(InputError, match=re.escape(says)) as caught:
        load_published(path)
    assert "kd.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["top1", "source", "epoch"])
def test_a_missing_key_is_named(tmp_path, key):
    published = {name: value for name, value in GOOD["published"].items() if name != key}
    with pytest.raises(InputError, match=f"published.{key} is missing; give"):
        load_published(write(tmp_path, GOOD | {"published": published}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"teacher": "a"}, "published is missing"),
        (GOOD | {"published": "77.2"}, "is no mapping"),
        ("- a\n- b\n", "is no recipe"),
        ("", "is no recipe"),
        ("a: [1\nb: 2", "cannot be read"),
    ],
)
def test_a_broken_file_is_one_clear_line(tmp_path, content, says):
    with pytest.raises(InputError, match=says) as caught:
        load_published(write(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.yaml cannot be read"):
        load_published(tmp_path / "nowhere.yaml")
    path = write(tmp_path, GOOD)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"kd\.yaml cannot be read"):
        load_published(path)


def test_the_installed_copy_comes_before_the_repository(tmp_path, monkeypatch):
    package = tmp_path / "src" / "stillroom"
    package.mkdir(parents=True)
    monkeypatch.setattr(recipes, "__file__", str(package / "recipes.py"))
    with pytest.raises(InputError, match="no published recipes"):
        recipes_folder()
    write(tmp_path / "recipes", GOOD)
    assert recipes_folder() == (tmp_path / "recipes").resolve()
    write(package / "published", GOOD)
    assert recipes_folder() == (package / "published").resolve()
    assert [recipe.name for recipe in published_recipes()] == ["set/a-b/kd"]


def test_looking_recipes_up_needs_no_torch():
    code = "import sys, stillroom.recipes as r; r.published_recipes(method='kd'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


MODELS = {"teacher": "t", "student": "resnet8", "data": "d"}


def test_every_recipe_of_ours_has_settings_of_every_run_and_nothing_that_is_fetched_or_named():
    assert set(own_recipes()) == {path.stem for path in OWN} == {"plain", "strong"}
    for name in own_recipes():
        settings = recipe_settings(name)
        made = make_recipe("distill", {**MODELS, "recipe": name})
        assert make_recipe("train", {"model": "resnet8", "data": "d", "recipe": name}).optim == made.optim
        known = settings_in(DataOptions, OptimOptions, RunOptions)
        assert set(settings) <= {key for key, one in known.items() if not one.path}
        assert made.flat() == make_recipe("distill", {**MODELS, **settings, "recipe": name}).flat()


def test_the_strong_recipe_is_the_defaults_of_all_that_the_others_set():
    strong = make_recipe("distill", {**MODELS, "recipe": "strong"})
    assert strong == make_recipe("distill", MODELS)
    others = set().union(*(recipe_settings(name) for name in own_recipes()))
    assert set(recipe_settings("strong")) == others


def test_the_plain_recipe_is_the_published_schedule():
    plain = make_recipe("distill", {**MODELS, "recipe": "plain"}).optim
    assert (plain.schedule, plain.milestones, plain.lr, plain.nesterov) == ("milestones", [150, 180, 210], 0.05, False)
    narrow = make_recipe("distill", {**MODELS, "recipe": "plain", "student": "MobileNetV2"}).optim
    assert narrow.lr == 0.01


def test_a_given_setting_wins_over_the_recipe_and_the_recipe_over_the_default():
    plain = make_recipe("distill", {**MODELS, "recipe": "plain", "nesterov": True, "epochs": 12})
    assert (plain.optim.schedule, plain.optim.nesterov, plain.optim.lr) == ("milestones", True, 0.05)
    assert plain.flat()["recipe"] == "plain"
    assert plain.run.epochs == 12
    other = make_recipe("distill", {**MODELS, "recipe": "plain", "schedule": "onecycle"}).optim
    assert (other.schedule, other.nesterov, other.lr) == ("onecycle", True, 0.1)


def test_a_published_recipe_names_models_data_and_method_for_distill_and_its_schedule_for_train():
    name = "cifar100/resnet32x4-resnet8x4/dkd"
    made = make_recipe("distill", {"recipe": name, "student": "resnet8"}).flat()
    published = load_published(recipes_folder() / f"{name}.yaml").settings
    assert {key: made[key] for key in published} == published | {"student": "resnet8"}
    teacher = make_recipe("train", {"recipe": name, "model": "resnet32x4", "lr": 0.1}).flat()
    assert (teacher["milestones"], teacher["data"], teacher["lr"]) == ([150, 180, 210], "cifar100", 0.1)
    assert "method" not in teacher


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("stong", "recipe=stong: there is no such recipe; did you mean strong?; stillroom list recipes"),
        ("cifar100/resnet32x4-resnet8x4/dkdd", "did you mean cifar100/resnet32x4-resnet8x4/dkd"),
        ("../recipes/strong", "there is no such recipe"),
        ("/etc/passwd", "there is no such recipe"),
        (["strong"], "recipe=['strong']: give text"),
    ],
)
def test_an_unknown_recipe_is_one_error_with_suggestions(name, says):
    with pytest.raises(InputError) as caught:
        with_recipe({"recipe": name}, {})
    assert says in str(caught.value)


def test_a_run_records_the_recipe_with_its_values_and_goes_on_under_either(tmp_path, tiny_data):
    settings = {"epochs": 1, "precision": "32", "accelerator": "cpu", "runs": str(tmp_path), "progress": False}
    models = {"teacher": tiny_model(width=16), "student": tiny_model(), "data": tiny_data}
    _, record = distill(**models, name="r", recipe="strong", method="kd", lr=0.01, **settings)
    there = yaml.safe_load((record.path / "config.yaml").read_text())
    assert there.items() >= {**recipe_settings("strong"), "recipe": "strong", "lr": 0.01, "method": "kd"}.items()
    written = dict(recipe_settings("strong"), method="kd", lr=0.01)
    _, again = distill(**models, name="r", **written, **settings)
    assert again.path == record.path


def test_the_method_in_python_is_the_recipes_unless_it_is_given(tmp_path, tiny_data, monkeypatch):
    made = []
    monkeypatch.setattr("stillroom.api.run_recipe", lambda recipe, *_: made.append(recipe.models.method))
    models = {"teacher": tiny_model(width=16), "student": tiny_model(), "data": tiny_data}
    for settings in ({}, {"recipe": "strong"}, {"recipe": "cifar100/resnet56-resnet20/kd"}):
        distill(**models, **settings)
    distill(**models, recipe="cifar100/resnet56-resnet20/kd", method="dkd")
    assert made[:2] == ["ldrld", "ldrld"]
    assert "kd(" in made[2]
    assert made[3] == "dkd"


def test_a_value_of_a_recipe_that_does_not_fit_is_said_to_be_the_recipes():
    name = "cifar100/resnet32x4-resnet8x4/ldrld"
    with pytest.raises(InputError, match=rf"warmup_epochs=20 \(of recipe={name}\): give at most 12"):
        make_recipe("distill", {"recipe": name, "epochs": 12})
    fits = make_recipe("distill", {"recipe": name, "epochs": 12, "warmup_epochs": 2})
    assert (fits.optim.schedule, fits.optim.warmup_epochs) == ("milestones", 2)


def test_a_run_of_earlier_defaults_is_refused_by_what_differs_and_goes_on_with_the_plain_recipe(tmp_path, tiny_data):
    shared = {"epochs": 1, "precision": "32", "accelerator": "cpu", "runs": str(tmp_path), "progress": False}
    models = {"model": "tests.conftest:tiny_model", "data": tiny_data}
    train(**models, name="r", schedule="milestones", lr=0.05, nesterov=False, **shared)
    config = tmp_path / "r" / "config.yaml"
    config.write_text(config.read_text().replace("recipe: strong", "recipe: plain"))  # the default then
    differs = r"holds a run with other settings \(lr 0.05 there, 0.1 now; nesterov False there, True now; schedule"
    with pytest.raises(InputError, match=differs):
        train(**models, name="r", **shared)
    _, again = train(**models, name="r", recipe="plain", **(shared | {"checkpoint_every": 2}))
    assert again.path == tmp_path / "r"
