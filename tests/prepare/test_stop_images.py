from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stillroom.config import make_recipe
from stillroom.data import Augment, DataSet
from stillroom.data import memory_limit as memory
from stillroom.engine.sample_hashes import seen_by
from stillroom.errors import InputError
from stillroom.prepare.stop_images import hold_out
from tests.conftest import tiny_set
from tests.engine.test_loop import run


def split(data, **settings):
    made = make_recipe("train", {"model": "m", "data": "d", "patience": 3, **settings})
    return hold_out(made, replace(data, train=data.train.hashed()))


def test_each_class_gives_its_fraction_and_no_image_is_on_both_sides(tiny_data):
    data, held_out = split(tiny_data, stop_fraction=0.25)
    assert held_out.labels.bincount().tolist() == [5] * 4
    assert sorted(data.train.ids.tolist() + held_out.ids.tolist()) == tiny_data.train.ids.tolist()
    assert data.val is tiny_data.val


def test_all_seeds_are_judged_by_the_same_images_and_no_patience_takes_none(tiny_data):
    one, other = (split(tiny_data, seed=seed)[1] for seed in (0, 1))
    assert one.ids.tolist() == other.ids.tolist()
    data, held_out = split(tiny_data, patience=None)
    assert held_out is None
    assert len(data.train) == 80


def test_images_without_a_label_judge_only_where_none_has_one(tiny_data):
    train = replace(tiny_data.train, labels=tiny_data.train.labels.masked_fill(tiny_data.train.ids % 2 == 0, -1))
    assert split(replace(tiny_data, train=train))[1].unlabelled == 0
    nothing = replace(tiny_data, train=tiny_data.train.without_labels(), val=tiny_data.val.without_labels())
    assert split(nothing)[1].unlabelled == 8


def test_classes_of_one_image_and_a_full_memory_are_refused(tiny_data, monkeypatch):
    with pytest.raises(InputError, match=r"patience=3: no class has two training images.*leave patience out"):
        split(DataSet("one", tiny_set(1), tiny_set(1, seed=1), (0.5,) * 3, (0.25,) * 3, Augment(pad=1)))
    monkeypatch.setattr(memory, "_USABLE", 0)
    with pytest.raises(InputError, match=r"patience=3: copies of 80 training images.*source=files"):
        split(tiny_data)


def test_held_out_images_count_as_seen_and_are_not_called_unlabelled(tmp_path, tiny_data):
    said = []

    class Says:
        def __getattr__(self, name):
            return said.append if name == "say" else lambda *_: None

    _, record = run(tmp_path, tiny_data, patience=1, epochs=2, reporter=Says())
    assert set(seen_by(record)) == set(tiny_data.train.content().tolist())
    assert not [line for line in said if "no label" in line]
    assert any("patience=1 can end the run before the learning rate has fallen" in line for line in said)
    assert record.config()["train_images"] == 80
    assert torch.equal(tiny_data.train.ids, torch.arange(80))
