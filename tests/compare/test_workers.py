from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stillroom.compare.workers import in_folder

# Asked in a process of its own, for PyTorch reads these variables when it is imported.
ASK = """
import json, os, sys
cores = int(sys.argv[1])
if cores:
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
from stillroom.compare.workers import jobs_here, threads_for
print(json.dumps([threads_for(1), threads_for(2), jobs_here()]))
"""


def answered(cores, **variables):
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(cores)], env=kept | variables, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_runs_take_the_threads_that_were_asked_for():
    assert answered(0, OMP_NUM_THREADS="1")[:2] == [1, 1]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_a_process_that_is_bound_to_one_core_works_on_one_run_with_one_thread():
    assert answered(1) == [1, 1, 1]


def test_relative_paths_mean_on_a_cluster_what_they_meant_where_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert in_folder(str(tmp_path), Path.cwd) == tmp_path
    assert in_folder(str(tmp_path / "not here"), Path.cwd) == tmp_path
