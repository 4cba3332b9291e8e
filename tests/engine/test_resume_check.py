from __future__ import annotations

import pytest
import torch
import yaml

from stillroom.engine.resume_check import contents_of, differing, same_setting
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, Stopped
from tests.engine import processes

RUN = {"lr": 0.1, "data": "photos", "teacher": "runs/t", "teacher_weights": "abc", "checkpoint_every": 1}
NEWER = (
    "source", "workers", "crop_fraction", "scaled_decoding", "colour_jitter", "auto_augment", "rand_ops",
    "rand_magnitude", "erase", "bank_bits", "repeat_views", "accumulate", "batch_norm", "checkpoint_steps",
    "checkpoint_minutes", "launcher", "processes", "ray", "max_restarts",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "differences"),
    [
        ({}, []),
        ({"lr": 0.2}, ["lr 0.1 there, 0.2 now"]),
        ({"checkpoint_every": 5, "device": "cuda"}, []),
        ({"teacher": "moved/t"}, []),
        ({"teacher": "resnet56"}, ["teacher 'runs/t' there, 'resnet56' now"]),
        ({"data": "elsewhere"}, ["data 'photos' there, 'elsewhere' now"]),
        ({"new": 3}, ["new None there, 3 now"]),
        ({"batch_norm": "synchronised", "accumulate": 1, "source": "memory", "colour_jitter": 0.0}, []),
        ({"batch_norm": "per_process"}, ["batch_norm 'synchronised' there, 'per_process' now"]),
        ({"source": "files"}, ["source 'memory' there, 'files' now"]),
    ],
)
def test_only_settings_that_decide_the_result_are_differences(changed, differences):
    assert differing(RUN, RUN | changed) == differences


def test_images_with_equal_fingerprints_may_lie_elsewhere():
    recorded = {"identity": {"data": {"training images": "1"}}}
    assert contents_of(recorded) == {"training images": "1"}
    assert contents_of({"identity": "damaged"}) is None
    assert differing(RUN | recorded, RUN | recorded | {"data": "elsewhere"}) == []


def test_two_spellings_of_a_path_are_one_setting(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    assert same_setting("data", "photos", str(tmp_path / "photos"))
    assert not same_setting("data", "photos", "other")
    assert not same_setting("method", "photos", str(tmp_path / "photos"))


def test_a_run_begun_before_settings_existed_continues_bit_for_bit(tmp_path):
    whole, _ = processes.distil(tmp_path / "whole", "per-sample")
    with pytest.raises(Stopped):
        processes.distil(tmp_path, "per-sample", act=processes.ask)
    config = RunFolder(tmp_path / "per-sample-1").path / "config.yaml"
    settings = yaml.safe_load(config.read_text())
    older = {key: value for key, value in settings.items() if key not in NEWER}
    assert len(settings) == len(older) + len(NEWER)
    config.write_text(yaml.safe_dump(older))
    with pytest.raises(InputError, match="accumulate 1 there, 2 now"):
        processes.distil(tmp_path, "per-sample", accumulate=2)
    student, record = processes.distil(tmp_path, "per-sample")
    assert [row["epoch"] for row in record.epochs()] == [1, 2, 3]
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in whole.state_dict().items())
