import multiprocessing
import re
import subprocess
import sys

import psutil
import pytest
import torch

from stillroom.data import Loader, load_data
from stillroom.data.image_feed import Request
from stillroom.errors import InputError
from stillroom.input_format import InputFormat

FORMAT = InputFormat((0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def files(image_folder):
    return load_data(image_folder(count=20), val_fraction=0.2, source="files").train


def batches(files, epoch=1, start=0, **options):
    options = {"batch_size": 4, "input_format": FORMAT, "shuffle": True, "workers": 2} | options
    return Loader(files, **options).epoch(epoch, start)


def test_an_epoch_goes_on_at_any_step_without_reading_what_was_skipped(files, tmp_path):
    whole = [batch.images for batch in batches(files)]
    order = Loader(files, batch_size=4, input_format=FORMAT, shuffle=True).order(1)
    for place in files.places[order[:8]]:
        (tmp_path / files.names[place]).unlink()
    rest = [batch.images for batch in batches(files, start=2)]
    assert all(torch.equal(one, other) for one, other in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_vanishes_is_named_with_what_to_do(files, tmp_path, workers):
    name = files.names[files.places[3]]
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name}.*repair|{name}.*vanished"):
        list(batches(files, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_was_cut_short_is_named(files, tmp_path, workers):
    path = tmp_path / files.names[files.places[3]]
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match=path.name):
        list(batches(files, workers=workers))


def test_images_that_differ_in_size_are_named(image_folder, image, tmp_path):
    files = load_data(image_folder(count=20), val_fraction=0.2, source="files").train
    path = tmp_path / files.names[files.places[3]]
    image(5, (9, 8)).save(path)
    with pytest.raises(InputError, match=r"image_size is None but .* give image_size|changed"):
        list(batches(files, workers=0))


KILLED = """
import multiprocessing, os, signal, sys, time
from stillroom.data import Loader, load_data
from stillroom.data.decoding_workers import naming_workers
from stillroom.errors import WorkerDied
from stillroom.input_format import InputFormat

files = load_data(sys.argv[1], source="files").train
loader = Loader(files, batch_size=2, input_format=InputFormat((0.5,) * 3, (0.25,) * 3), shuffle=True, workers=2)
try:
    with naming_workers():
        for batch in loader.epoch(1):
            workers = multiprocessing.active_children()
            os.kill(workers[0].pid, signal.SIGKILL)
            time.sleep(0.05)
except WorkerDied as error:
    print(workers[0].pid, workers[1].pid, error, sep="\\n")
"""


HANDING_OVER = """
import torch.utils.data.dataloader as dataloader
workers = []
def broken(self, timeout=0):
    workers[:] = self._workers
    os.kill(workers[0].pid, signal.SIGKILL)
    raise ConnectionResetError
dataloader._MultiProcessingDataLoaderIter._try_get_data = broken
"""


@pytest.mark.parametrize("moment", ["", HANDING_OVER], ids=["between batches", "while it hands one over"])
def test_a_worker_that_dies_is_named_and_the_others_end(image_folder, moment):
    # In a process of its own, because PyTorch raises the error wherever the main thread is.
    code = KILLED.replace("loader = Loader", f"{moment}\nloader = Loader")
    command = [sys.executable, "-c", code, str(image_folder(count=20))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    dead, other, message = run.stdout.splitlines()
    assert re.match(rf"the worker process {dead} that decodes images died .*; .* lower workers or batch_size", message)
    assert not psutil.pid_exists(int(other))


def test_workers_end_with_an_epoch_that_is_left(files):
    before = {child.pid for child in multiprocessing.active_children()}
    epoch = batches(files)
    next(epoch)
    assert {child.pid for child in multiprocessing.active_children()} > before
    epoch.close()
    assert {child.pid for child in multiprocessing.active_children()} <= before


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_number_of_batches_read_ahead_is_bounded(files, workers):
    asked, most = [], 0

    def requests():
        for place in range(20):
            asked.append(place)
            places = torch.tensor([place, place + 1])
            yield Request(places, places)

    feed = files.feed(None, torch.device("cpu"), workers)
    for number, _ in enumerate(feed.batches(requests()), 1):
        most = max(most, len(asked) - number)
    assert len(asked) == 20
    assert most <= 2 * workers + 2
