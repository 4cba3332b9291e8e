"""Lives of a process: each is forked from one that has imported everything, so that twenty of them take seconds.

``python -m tests.durability.lives`` is that one. It reads a line of JSON, ``{"call": [name in work.py, arguments],
"limit": seconds}``, lets a child do it, kills the child at the limit, and answers with the child's end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class End:
    """How a life ended: the signal that ended it, or 0; what was raised, or ""; how long it took; its process group."""

    signal: int
    error: str
    seconds: float
    group: int


class Lives:
    """The process that all lives are forked from."""

    def __init__(self, log):
        self._log = log.open("w")
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.durability.lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self._log, text=True, cwd=Path(__file__).parents[2],
            env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip

    def live(self, name, *arguments, limit=60.0):
        """One life that does what a function of ``work.py`` says."""
        plain = [str(a) if isinstance(a, Path) else a for a in arguments]
        self._server.stdin.write(json.dumps({"call": [name, plain], "limit": limit}) + "\n")
        self._server.stdin.flush()
        return End(**json.loads(self._server.stdout.readline()))

    def close(self):
        self._server.stdin.close()
        self._server.wait(60)
        self._server.stdout.close()
        self._log.close()


def _serve():
    import torch

    from tests.durability import work

    torch.set_num_threads(1)  # before any work: a process with threads cannot be forked
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        name, arguments = asked["call"]
        begin = time.perf_counter()
        said, says = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(said)
            _child(getattr(work, name), arguments, says)
        os.close(says)
        ended = _wait(child, asked["limit"])
        seconds = time.perf_counter() - begin
        error = _read(said)
        answers.write(json.dumps({"signal": ended, "error": error, "seconds": seconds, "group": child}) + "\n")
        answers.flush()


def _read(pipe):
    """What an ended child has said; its own children may still hold the other end."""
    os.set_blocking(pipe, False)
    try:
        return os.read(pipe, 2**16).decode()
    except BlockingIOError:
        return ""
    finally:
        os.close(pipe)


def _child(act, arguments, says):
    os.setpgid(0, 0)  # as a shell does, so that a signal reaches its children and not the tests
    try:
        act(*arguments)
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the test's to judge
        os.write(says, f"{type(error).__name__}: {error}".encode())
        with suppress(OSError):  # the trouble may be that nothing can be written
            traceback.print_exc()
    finally:
        os._exit(0)


def _wait(child, limit):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) * -1
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    _serve()
