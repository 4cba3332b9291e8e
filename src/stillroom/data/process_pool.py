"""Process pool: call a function on many tasks in forked worker processes, results in order.

Python's own pool does not say which task a dead worker had, keeps workers alive when its parent is killed, and lets
Ctrl-C wait for every task that has begun.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_AHEAD = 4  # tasks of each worker that may be done before the first missing one: bounds the memory for results


class WorkerDiedError(RuntimeError):
    """A worker process ended before its task was done, for example killed for lack of memory."""


class _Worker(NamedTuple):
    process: Any
    connection: Connection


def map_in_processes(
    function: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Generator[Result, None, None]:
    """Call ``function`` on each task and return the results in the order of the tasks.

    Workers are forked, so the function need not be picklable; tasks and results are sent. When the iterator is closed,
    by an error or Ctrl-C too, every worker is killed. Workers end by themselves when this process is killed.

    Args:
        function: called in the workers; an exception that it raises is raised here.
        tasks: read only as fast as they are done.
        processes: number of workers; 1 calls the function in this process.

    Raises:
        WorkerDiedError: a worker died; the message names the signal or exit status, and the number of the task.
    """
    if processes == 1:
        yield from map(function, tasks)
        return
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            workers.append(_start(function, [worker.connection for worker in workers]))
        yield from _results(workers, iter(tasks))
    finally:
        for worker in workers:
            worker.process.kill()
        for worker in workers:
            worker.process.join()
            worker.connection.close()


def _start(function: Callable[[Any], Any], others: Sequence[Connection]) -> _Worker:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    # The worker closes the inherited ends of this process. Otherwise it would never see this process die.
    process = context.Process(target=_work, args=(function, theirs, [*others, ours]), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _work(function: Callable[[Any], Any], connection: Connection, inherited: Sequence[Connection]) -> None:
    """Serve tasks until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, which a terminal sends to all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:
        other.close()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            task = connection.recv()
            result: tuple[Any, Exception | None]
            try:
                result = function(task), None
            except Exception as error:  # noqa: BLE001  raised again in the parent
                result = None, error
            connection.send(result)


def _results(workers: Sequence[_Worker], tasks: Iterator[Any]) -> Iterator[Any]:
    done: dict[int, Any] = {}
    busy: dict[Connection, tuple[int, _Worker]] = {}
    idle = list(workers)
    sent = given = 0
    more = True
    while more or busy or done:
        while more and idle and sent < given + _AHEAD * len(workers):
            try:
                task = next(tasks)
            except StopIteration:
                more = False
                break
            worker = idle.pop()
            busy[worker.connection] = (sent, worker)
            with suppress(BrokenPipeError, ConnectionResetError):  # receiving reports the dead worker
                worker.connection.send(task)
            sent += 1
        if given in done:
            yield done.pop(given)
            given += 1
            continue
        for connection in wait(list(busy)):
            assert isinstance(connection, Connection)
            number, worker = busy.pop(connection)
            done[number] = _received(worker, number)
            idle.append(worker)


def _received(worker: _Worker, number: int) -> Any:
    try:
        result, error = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        code = worker.process.exitcode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise WorkerDiedError(f"a worker process {how} at task {number}") from None
    if error is not None:
        raise error
    return result
