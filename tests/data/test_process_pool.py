"""The process pool: results in order, errors and dead workers reported, no process left behind."""

import multiprocessing
import os
import signal
import time

import pytest

from stillroom.data.process_pool import WorkerDiedError, map_in_processes


@pytest.fixture(autouse=True)
def _none_left():
    before = set(multiprocessing.active_children())
    yield
    assert set(multiprocessing.active_children()) == before


def slow_first(task):
    time.sleep(0.2 if task == 0 else 0)
    return task, os.getpid()


def test_results_come_in_the_order_of_the_tasks_from_several_processes():
    results = list(map_in_processes(slow_first, iter(range(30)), 3))
    assert [task for task, _ in results] == list(range(30))
    assert len({pid for _, pid in results}) > 1
    assert os.getpid() not in {pid for _, pid in results}


def test_tasks_are_read_only_as_fast_as_they_are_done():
    read = []

    def tasks():
        for number in range(1000):
            read.append(number)
            yield number

    results = map_in_processes(slow_first, tasks(), 2)
    next(results)
    results.close()
    assert len(read) < 20


def test_large_tasks_and_results_do_not_block():
    tasks = [bytes([number]) * 2**21 for number in range(6)]
    assert list(map_in_processes(lambda task: task[::-1], tasks, 2)) == tasks


def test_an_error_in_a_worker_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(map_in_processes(lambda task: 1 // task, [1, 0, 1], 2))


def test_a_worker_that_dies_is_named_with_its_task():
    def die(task):
        if task == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    with pytest.raises(WorkerDiedError, match="SIGKILL at task 2"):
        list(map_in_processes(die, range(5), 2))


def test_workers_end_when_their_parent_is_killed():
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def parent():
        for pid in map_in_processes(lambda _: os.getpid(), range(10**9), 2):
            theirs.send(pid)

    process = context.Process(target=parent)
    process.start()
    workers = {ours.recv() for _ in range(10)}
    process.kill()
    process.join()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(running(pid) for pid in workers):
        time.sleep(0.05)
    assert not any(running(pid) for pid in workers)


def running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
