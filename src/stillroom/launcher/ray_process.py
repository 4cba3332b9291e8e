"""One process of a run that Ray Train has started, from its first line to its last."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stillroom.config import Recipe
from stillroom.errors import Diverged, InputError, InUse, Stopped, first_line
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.folder_lock import locked
from stillroom.runtime.reporters import Lines, Reporter, Silent
from stillroom.runtime.signals import StopRequest, stopped_by
from stillroom.trust import Trust

Train = Callable[[Recipe, Reporter, Inputs], object]

SECONDS_TO_RELEASE = 30  # within these a process that was ended has released the run folder
SECONDS_TO_APPEAR = 10  # network disks show a new file after some seconds
ENDS = (InputError, Diverged, Stopped)  # end the run; any other error may be gone after a restart


@dataclass(frozen=True)
class Work:
    """What every process of a run needs; it is sent to other machines.

    Attributes:
        train: trains the recipe in the process group of its process.
        recipe: the settings.
        trust: which names may be imported or fetched.
        folder: working directory of the driver, for relative paths.
        command: the driver's command line, which the run folder records.
        marker: a file that the driver has written into the ``runs`` folder.
        threads: processor threads of each process.
        mailbox: the driver's :class:`Mailbox`.
    """

    train: Train
    recipe: Recipe
    trust: Trust
    folder: str
    command: list[str]
    marker: str
    threads: int
    mailbox: Any


def ray_process(config: dict[str, Any]) -> None:
    """Train in one process that Ray Train has started; it runs in a thread of that process."""
    import ray
    from ray.train import get_context

    work: Work = config["work"]
    rank, request = get_context().get_world_rank(), StopRequest()

    def listen() -> None:
        with suppress(Exception):  # the driver has ended
            request.take(ray.get(work.mailbox.requested.remote()))

    threading.Thread(target=listen, name="requests to stop", daemon=True).start()
    reporter = _Posting(ray, work.mailbox) if rank == 0 else Silent()
    try:
        enter(work)
        if rank == 0:
            take_over(work, ray.get(work.mailbox.start.remote()), reporter)
        with stopped_by(request):
            work.train(work.recipe, reporter, Inputs(trust=work.trust))
    except ENDS as error:
        kind = next(kind for kind in ENDS if isinstance(error, kind))
        ray.get(work.mailbox.end.remote(kind.__name__, str(error)))
        if kind is not Stopped:
            threading.Event().wait()  # the driver ends this process; the others may be waiting for it until then
    except Exception as error:
        ray.get(work.mailbox.say.remote(f"process {rank} on {socket.gethostname()} failed ({first_line(error)})"))
        raise


class _Posting(Lines):
    """The lines of process 0, for the driver."""

    def __init__(self, ray: Any, mailbox: Any) -> None:
        super().__init__(lambda line: ray.get(mailbox.say.remote(line)))
        self._begin: Callable[[], object] = lambda: ray.get(mailbox.begin_training.remote())

    def start(self, name: str, epochs: int, steps: int, done: int, about: Sequence[str] = ()) -> None:
        """Print the description of the run; from now on a request to stop is answered."""
        self._begin()
        super().start(name, epochs, steps, done, about)


def enter(work: Work) -> None:
    """Change into the driver's working directory, and check that this machine sees its disk.

    Raises:
        InputError: it does not.
    """
    fix = "put the working directory, runs= and data= on a disk that all machines share"
    try:
        os.chdir(work.folder)
    except OSError as error:
        raise InputError(
            f"launcher=ray: {work.folder} is missing on {socket.gethostname()} ({error.strerror}); {fix}"
        ) from error
    end = time.monotonic() + SECONDS_TO_APPEAR
    while Path(work.marker).name not in _names_in(Path(work.marker).parent):
        if time.monotonic() > end:
            raise InputError(
                f"runs={work.recipe.run.runs}: {socket.gethostname()} does not see the files that the launching "
                f"machine writes there; {fix}"
            )
        time.sleep(0.5)
    sys.argv = work.command
    torch.set_num_threads(work.threads)


def _names_in(folder: Path) -> set[str]:
    with suppress(OSError):
        return {entry.name for entry in folder.iterdir()}
    return set()


def take_over(work: Work, start: int, reporter: Reporter) -> None:
    """After a restart, wait until the earlier process 0 has released the run folder."""
    if start == 1:
        return
    reporter.say(f"note: all processes were started again ({start - 1}); they continue from the last checkpoint")
    lock = Path(work.recipe.run.runs) / work.recipe.run_name / ".lock"
    end = time.monotonic() + SECONDS_TO_RELEASE
    while lock.parent.is_dir():
        try:
            with locked(lock):
                return
        except InUse as error:
            if time.monotonic() > end:
                raise ConnectionError(str(error)) from error  # Ray may start all of them again
        time.sleep(0.5)
