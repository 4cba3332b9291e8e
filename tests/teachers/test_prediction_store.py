from __future__ import annotations

import multiprocessing
import os
import sqlite3

import pytest
import torch

from stillroom.errors import InputError
from stillroom.teachers import bank_files
from stillroom.teachers.prediction_store import PredictionStore, image_keys

KEYS = [bytes([number]) * 16 for number in range(4)]


def open_store(folder, identity="a", limit=10**9, say=print):
    return PredictionStore(folder, identity, limit_bytes=limit, say=say)


def rows_of(count: int) -> torch.Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(0))


def test_rows_come_back_bit_by_bit(tmp_path):
    rows = rows_of(3)
    store = open_store(tmp_path)
    store.write(KEYS[:3], rows)
    store.close()
    found = open_store(tmp_path).read(KEYS)
    assert list(found) == KEYS[:3]
    assert torch.equal(torch.stack([found[key] for key in KEYS[:3]]), rows)


def test_two_teachers_share_nothing(tmp_path):
    open_store(tmp_path, "a").write(KEYS[:1], rows_of(1))
    assert open_store(tmp_path, "b").read(KEYS) == {}


def test_the_key_is_that_of_values_type_and_shape():
    images = torch.arange(24, dtype=torch.uint8).view(2, 3, 2, 2)
    keys = image_keys(images)
    assert keys == image_keys(images.clone())
    assert keys[0] != keys[1]
    assert not set(keys) & set(image_keys(images.float()))
    assert not set(keys) & set(image_keys(images.view(2, 3, 4, 1)))


def _write_and_die(folder):
    store = open_store(folder)
    store.reserve(2, None)
    store.write(KEYS[:2], rows_of(2))
    os._exit(9)


def test_what_was_written_survives_a_kill(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_write_and_die, args=(tmp_path,))
    process.start()
    process.join()
    store = open_store(tmp_path)
    assert set(store.read(KEYS)) == set(KEYS[:2])
    assert store.sent == 2


def _reserve_many(folder, start, granted):
    start.wait()
    store = open_store(folder)
    count = sum(store.reserve(1, 50) for _ in range(20))
    with granted.get_lock():
        granted.value += count


def test_several_processes_share_one_budget(tmp_path):
    context = multiprocessing.get_context("fork")
    start, granted = context.Event(), context.Value("i", 0)
    processes = [context.Process(target=_reserve_many, args=(tmp_path, start, granted)) for _ in range(4)]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert granted.value == open_store(tmp_path).sent == 50


def test_a_full_folder_is_said_once_and_reading_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(bank_files, "FREE_FRACTION", 0.0)
    said: list[str] = []
    open_store(tmp_path).write(KEYS[:1], rows_of(1))
    store = open_store(tmp_path, limit=1000, say=said.append)
    for key in KEYS[1:]:
        store.write([key], rows_of(1))
    assert list(store.read(KEYS)) == KEYS[:1]
    assert not store.storing
    assert len(said) == 1
    assert "the size limit is reached. This run stores no more of them" in said[0]


def test_a_damaged_file_is_named(tmp_path):
    store = open_store(tmp_path)
    store.close()
    store.path.write_bytes(b"no database " * 1000)
    with pytest.raises(InputError, match=r"predictions-.*\.sqlite, which holds .* is damaged .*delete it"):
        open_store(tmp_path)


def test_a_damaged_row_counts_as_missing(tmp_path):
    said: list[str] = []
    store = open_store(tmp_path, say=said.append)
    store.write(KEYS, rows_of(4))
    with sqlite3.connect(store.path) as database:
        database.execute("UPDATE predictions SET value = zeroblob(20) WHERE key = ?", (KEYS[1],))
    assert set(store.read(KEYS)) == {KEYS[0], KEYS[2], KEYS[3]}
    store.read(KEYS)
    assert len(said) == 1
    store.write(KEYS[1:2], rows_of(1))
    assert set(store.read(KEYS)) == set(KEYS)
