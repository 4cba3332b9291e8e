"""The loop with a teacher bank."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext

import pytest
import torch

from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError, Stopped
from stillroom.teachers.torch_teacher import TorchTeacher
from tests.conftest import tiny_model
from tests.engine.test_loop import At, run, same_weights


@pytest.fixture
def teacher():
    torch.manual_seed(5)
    return tiny_model(width=16)


@pytest.fixture
def asked(monkeypatch):
    """Counts how often a teacher is asked in the course of training, from when it is called."""

    def count():
        passes = []
        predict = TorchTeacher.predict

        def counted(self, batch):
            if self._machine is not None:  # before that it only shows its logits on a few images
                passes.append(1)
            return predict(self, batch)

        monkeypatch.setattr(TorchTeacher, "predict", counted)
        return passes

    return count


@pytest.mark.parametrize("bits", ["16", "8"])
@pytest.mark.parametrize("text", ["0.1*ce + 0.9*kd", "0.1*ce + 0.1*mlkd"])
def test_the_second_student_never_asks_the_teacher_and_learns_the_same(tmp_path, tiny_data, teacher, asked, text, bits):
    stored = {"bank": str(tmp_path / "bank"), "bank_bits": bits}
    first, record = run(tmp_path, tiny_data, teacher, text, name="first", **stored)
    passes = asked()
    second, again = run(tmp_path, tiny_data, teacher, text, name="second", **stored)
    assert passes == []
    assert same_weights(first.state_dict(), second.state_dict())
    assert again.summary()["teacher"] == record.summary()["teacher"]


def test_only_the_time_for_filling_the_bank_counts_as_such(tmp_path, tiny_data, teacher):
    teacher.register_forward_hook(lambda *_: time.sleep(0.01))
    _, live = run(tmp_path, tiny_data, teacher, "kd", name="live")
    filling, reading = (
        run(tmp_path, tiny_data, teacher, "kd", name=name, bank=str(tmp_path / "bank"))[1] for name in "ab"
    )
    steps = len(tiny_data.train) // 16
    for row in filling.epochs():
        assert 0.01 * steps <= row["bank_seconds"] <= row["seconds"]
    assert filling.summary()["bank_seconds"] == sum(row["bank_seconds"] for row in filling.epochs())
    assert reading.summary()["bank_seconds"] == live.summary()["bank_seconds"] == 0.0


def test_another_method_and_batch_size_read_the_same_bank(tmp_path, tiny_data, teacher, asked):
    run(tmp_path, tiny_data, teacher, "kd", name="first", bank=str(tmp_path / "bank"))
    passes = asked()
    run(tmp_path, tiny_data, teacher, "dkd", name="second", batch_size=10, bank=str(tmp_path / "bank"))
    assert passes == []


def test_banked_logits_train_as_live_ones_within_rounding(tmp_path, tiny_data, teacher):
    live, record = run(tmp_path, tiny_data, teacher, "kd", name="live")
    banked, other = run(tmp_path, tiny_data, teacher, "kd", name="banked", bank=str(tmp_path / "bank"))
    assert not same_weights(live.state_dict(), banked.state_dict())
    for key, value in live.state_dict().items():
        # Logits are rounded by up to 2^-11; fifteen steps with these settings move weights by up to 1e-4 through that.
        assert torch.allclose(banked.state_dict()[key], value, rtol=1e-3, atol=1e-3), key
    assert other.epochs()[-1]["loss"] == pytest.approx(record.epochs()[-1]["loss"], rel=1e-3)


@pytest.mark.parametrize("change", [{"seed": 1}, {"pad": 2}])
def test_other_images_are_not_answered_from_the_bank(tmp_path, tiny_data, teacher, asked, change):
    run(tmp_path, tiny_data, teacher, "kd", name="first", bank=str(tmp_path / "bank"))
    passes = asked()
    run(tmp_path, tiny_data, teacher, "kd", name="second", bank=str(tmp_path / "bank"), **change)
    assert passes


def test_another_teacher_with_the_same_weights_is_another_teacher(tmp_path, tiny_data, teacher, asked):
    run(tmp_path, tiny_data, teacher, "kd", name="first", bank=str(tmp_path / "bank"))
    teacher[2] = torch.nn.Tanh()
    passes = asked()
    run(tmp_path, tiny_data, teacher, "kd", name="second", bank=str(tmp_path / "bank"))
    assert passes


@pytest.mark.parametrize(("step", "views"), [(3, None), (8, None), (8, 1), (12, 2)])
def test_a_stopped_run_goes_on_bit_for_bit_with_a_bank(tmp_path, tiny_data, teacher, step, views):
    whole, _ = run(tmp_path, tiny_data, teacher, "kd", name="whole", bank=str(tmp_path / "one"), repeat_views=views)
    stop = At(step, lambda: os.kill(os.getpid(), signal.SIGTERM))
    cut = {"name": "cut", "bank": str(tmp_path / "two"), "repeat_views": views}
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, "kd", reporter=stop, **cut)
    resumed, _ = run(tmp_path, tiny_data, teacher, "kd", **cut)
    assert same_weights(whole.state_dict(), resumed.state_dict())


def test_repeated_views_need_as_many_passes_of_the_teacher(tmp_path, tiny_data, teacher, asked):
    settings = {"epochs": 5, "repeat_views": 2}
    passes = asked()
    live, _ = run(tmp_path, tiny_data, teacher, "kd", name="live", **settings)
    steps, validation = 5, 1
    assert len(passes) == 5 * steps + validation
    passes.clear()
    bank = str(tmp_path / "bank")
    _, record = run(tmp_path, tiny_data, teacher, "kd", name="banked", bank=bank, **settings)
    assert len(passes) == 2 * steps + validation
    assert [row["bank_seconds"] > 0 for row in record.epochs()] == [True, True, False, False, False]
    passes.clear()
    run(tmp_path, tiny_data, teacher, "kd", name="short", bank=bank, epochs=2)  # the same two epochs
    assert passes == []
    fresh, _ = run(tmp_path, tiny_data, teacher, "kd", name="fresh", epochs=5)
    assert not same_weights(live.state_dict(), fresh.state_dict())


def test_the_room_that_a_bank_needs_counts_repeated_views_once(tmp_path, tiny_data, teacher):
    said = At(0, lambda: None)
    said.say = (lines := []).append
    full = {"bank": str(tmp_path / "bank"), "bank_gb": 1e-9, "reporter": said}
    run(tmp_path, tiny_data, teacher, "kd", epochs=9, repeat_views=2, **full)
    (line,) = [line for line in lines if "stores no more" in line]
    assert f"needs {(2 * 80 + 40) * 4 * 2 / 1e9:.3g} GB" in line  # images, classes, bytes


def test_a_run_begun_without_a_bank_does_not_silently_go_on_with_one(tmp_path, tiny_data, teacher):
    stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped):
        run(tmp_path, tiny_data, teacher, "kd", reporter=stop)
    with pytest.raises(Exception, match="teacher_bank"):
        run(tmp_path, tiny_data, teacher, "kd", bank=str(tmp_path / "bank"))


def test_a_run_with_a_bank_goes_on_with_the_same_bits_only(tmp_path, tiny_data, teacher):
    for name, settings in (("banked", {"bank": str(tmp_path / "bank")}), ("live", {})):
        stop = At(3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Stopped):
            run(tmp_path, tiny_data, teacher, "kd", reporter=stop, name=name, **settings)
        now = {"name": name, "bank_bits": "8", **settings}
        with pytest.raises(InputError, match="bank_bits '16' there, '8' now") if settings else nullcontext():
            run(tmp_path, tiny_data, teacher, "kd", **now)


def test_banks_of_16_and_8_bits_are_kept_apart(tmp_path, tiny_data, teacher, asked):
    bank = str(tmp_path / "bank")
    first, _ = run(tmp_path, tiny_data, teacher, "kd", name="first", bank=bank)
    passes = asked()
    second, _ = run(tmp_path, tiny_data, teacher, "kd", name="second", bank=bank, bank_bits="8")
    assert passes
    assert not same_weights(first.state_dict(), second.state_dict())


def test_a_method_that_reads_features_says_that_it_does_not_use_the_bank(tmp_path, tiny_data, teacher):
    said = At(0, lambda: None)
    said.say = (lines := []).append
    run(tmp_path, tiny_data, teacher, "kd + at", reporter=said, bank=str(tmp_path / "bank"))
    assert any("bank= is not used" in line for line in lines)
    assert not (tmp_path / "bank").exists()


def test_a_full_bank_goes_on_live(tmp_path, tiny_data, teacher):
    said = At(0, lambda: None)
    said.say = (lines := []).append
    whole, _ = run(tmp_path, tiny_data, teacher, "kd", name="whole", bank=str(tmp_path / "one"))
    full, record = run(
        tmp_path, tiny_data, teacher, "kd", name="full", reporter=said, bank=str(tmp_path / "two"), bank_gb=1e-6
    )
    assert any("bank_gb" in line for line in lines)
    assert record.finished
    assert isinstance(record, RunFolder)
    assert same_weights(whole.state_dict(), full.state_dict())
