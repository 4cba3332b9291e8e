from __future__ import annotations

import pytest

from stillroom.engine.resume_check import contents_of, differing, same_setting

RUN = {"lr": 0.1, "data": "photos", "teacher": "runs/t", "teacher_weights": "abc", "checkpoint_every": 1}


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
