from __future__ import annotations

import pytest
import torch
from torch import nn

from stillroom.config import make_recipe
from stillroom.engine.accumulation import part_size
from stillroom.engine.loaders import make_loaders
from stillroom.errors import InputError
from stillroom.runtime.device import Machine
from tests.engine.test_loop import SETTINGS, run, same_weights


class NoNorms(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(11)
        self.conv, self.fc = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, images):
        return self.fc(self.conv(images).relu().mean((2, 3)))


def steps_of(data, accumulate, batch_size=24):
    recipe = make_recipe("train", {**SETTINGS, "model": "m", "batch_size": batch_size, "accumulate": accumulate})
    return make_loaders(data, recipe, Machine(torch.device("cpu"), "32"), strong=False)[0]


def test_the_images_of_each_step_do_not_depend_on_the_number_of_parts(tiny_data):
    whole, parted = steps_of(tiny_data, 1), steps_of(tiny_data, 3)
    assert len(whole) == len(parted) == 4  # 80 images, 24 in a step
    for (step,), parts in zip(map(list, whole.epoch(2, 1)), map(list, parted.epoch(2, 1)), strict=True):
        assert torch.equal(step[1].ids, torch.cat([batch.ids for _, batch in parts]))
        assert [part.last for part, _ in parts] == [False] * (len(parts) - 1) + [True]
        assert {part.step_images for part, _ in parts} == {len(step[1].ids)}
    assert len(parts) == 1  # the last step has 8 images, one part


@pytest.mark.parametrize(("precision", "near"), [("32", 1e-5), ("bf16", 2**-6)])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(tmp_path, tiny_data, monkeypatch, precision, near):
    monkeypatch.setattr("tests.engine.test_loop.tiny_model", NoNorms)
    settings = {"precision": precision, "batch_size": 24}
    whole, one = run(tmp_path, tiny_data, name="whole", **settings)
    parted, other = run(tmp_path, tiny_data, name="parted", accumulate=3, **settings)
    for key, value in whole.state_dict().items():
        assert torch.allclose(value, parted.state_dict()[key], rtol=near, atol=near), key
    assert one.epochs()[-1]["loss"] == pytest.approx(other.epochs()[-1]["loss"], rel=10 * near)
    assert one.epochs()[-1]["lr"] == other.epochs()[-1]["lr"]
    assert not same_weights(whole.state_dict(), NoNorms().state_dict())


def test_impossible_parts_are_refused_before_anything_is_read():
    for settings, words in (({"accumulate": 3}, "a divisor of batch_size=16"), ({"accumulate": 16}, "at least 2")):
        with pytest.raises(InputError, match=f"accumulate=.*{words}"):
            make_recipe("train", {**SETTINGS, "model": "m", **settings})
    with pytest.raises(InputError, match=r"accumulate=4.* 2 images for 3 processes"):
        part_size(8, 4, 3)
