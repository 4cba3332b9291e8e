import os
from pathlib import Path

import numpy as np
import pytest

from stillroom.data.decoding_workers import check_shared_memory, worker_count
from stillroom.errors import InputError


def test_batches_too_large_for_the_shared_memory_are_refused():
    if not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    check_shared_memory(1000, 2)
    with pytest.raises(InputError, match=r"workers=3.*lower workers or batch_size"):
        check_shared_memory(2**60, 3)


def test_the_number_of_workers_follows_the_cores_of_the_process(monkeypatch):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert worker_count(0) == 0
    assert worker_count(7) == 7
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(cores))
    assert worker_count() == 1
    assert np.clip(cores, 1, 16) >= worker_count() >= 1
