"""Launch a run on a Ray cluster: one process per device through Ray Train, restarted from the last checkpoint.

The caller's process is the driver: it starts the processes, prints the lines of process 0, and passes requests to stop
on. Ray Train makes the process group and starts all processes again when one of them has failed. The run folder is
their only shared state, so Ray's own checkpoints are not used.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stillroom.config import Recipe
from stillroom.errors import Diverged, InputError, InUse, Stopped, first_line
from stillroom.extras import require
from stillroom.files import make_folder
from stillroom.formatting import counted
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.folder_lock import locked
from stillroom.runtime.ray_cluster import connect
from stillroom.runtime.reporters import Lines, Reporter, Silent
from stillroom.runtime.signals import StopRequest, stop_requests, stopped_by
from stillroom.trust import Trust

Train = Callable[[Recipe, Reporter, Inputs], object]

LOOK_SECONDS = 0.3
SECONDS_TO_SAVE = 60  # what the processes have for the current step and the checkpoint after a request to stop
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


@dataclass
class News:
    """What the processes have reported since the driver looked last.

    Attributes:
        lines: to print.
        end: the type of the error that ends the run, and its message.
        training: whether process 0 has begun to train, so that there may be something to save.
    """

    lines: list[str] = field(default_factory=list)
    end: tuple[str, str] | None = None
    training: bool = False


class Mailbox:
    """The messages between the driver and the processes of a run; an actor on the driver's machine."""

    def __init__(self) -> None:
        self._news = News()
        self._starts = 0
        self._signal_number = 0
        self._stopped = asyncio.Event()

    async def start(self) -> int:
        """Process 0 is there; return how many times it has started."""
        self._starts += 1
        self._news.training = False
        return self._starts

    async def say(self, line: str) -> None:
        """Keep a line for the driver."""
        self._news.lines.append(line)

    async def begin_training(self) -> None:
        """The loop has begun: from now on it answers a request to stop."""
        self._news.training = True

    async def end(self, kind: str, message: str) -> None:
        """Keep the first error that ends the run."""
        self._news.end = self._news.end or (kind, message)

    async def requested(self) -> int:
        """Wait for a request to stop, and return its signal."""
        await self._stopped.wait()
        return self._signal_number

    async def exchange(self, signal_number: int) -> News:
        """Take the driver's request to stop, 0 for none, and give it the news."""
        if signal_number and not self._signal_number:
            self._signal_number = signal_number
            self._stopped.set()
        news, self._news = self._news, News(end=self._news.end, training=self._news.training)
        return news


def launch(train: Train, recipe: Recipe, reporter: Reporter, inputs: Inputs) -> None:
    """Train a run in processes that Ray Train starts on a Ray cluster, and wait for its end.

    Args:
        train: trains the recipe in one process of the group; a module-level function, because it is sent by name.
        recipe: the settings; ``recipe.launch`` says where and how many.
        reporter: shows what process 0 prints.
        inputs: only the permissions; objects cannot be sent.

    Raises:
        InputError: for anything that cannot work, found here or by a process.
        Diverged: as in a run of one process.
        Stopped: after Ctrl-C, SIGTERM or SIGHUP.
        ChildProcessError: the processes failed more than ``max_restarts`` times.
    """
    _refuse(inputs)
    options, own = recipe.launch, recipe.launch.ray == "local"
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")  # the default of recent versions
    os.environ["RAY_CHDIR_TO_TRIAL_DIR"] = "0"  # the processes work in the driver's working directory
    with (
        stop_requests() as stop,
        _marker(recipe) as marker,
        tempfile.TemporaryDirectory() as storage,
        redirect_stdout(sys.stderr),  # Ray prints there when it loses a machine
    ):
        threads = _threads(options.processes or 1, own=own)
        ray = connect(options.ray, threads * (options.processes or torch.accelerator.device_count() or 1))
        try:
            gpus = 0 if recipe.run.accelerator in ("cpu", "mps") else int(ray.cluster_resources().get("GPU", 0))
            count = options.processes or gpus
            if not count:
                raise InputError("launcher=ray: the cluster has no GPUs to count; give processes=N")
            if (there := gpus or int(ray.cluster_resources().get("CPU", 0)) // threads) < count:
                device = "GPU" if gpus else "free core"
                reporter.say(f"note: waiting for {counted(count, device)}; the cluster has {there}")
            here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            mailbox = ray.remote(num_cpus=0, scheduling_strategy=here)(Mailbox).remote()
            work = Work(train, recipe, inputs.trust, str(Path.cwd()), sys.argv, marker, threads, mailbox)
            _follow(ray, _fit(work, count, gpu=gpus > 0, storage=storage), mailbox, stop, reporter)
        finally:
            reporter.close()
            ray.shutdown()


def _refuse(inputs: Inputs) -> None:
    """Refuse what cannot be sent to other machines, and a second launcher around this one."""
    require("launcher=ray", "ray", ["ray", "pandas", "pydantic"])  # those of ray[train]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("launcher=ray starts its own processes: run the command without torchrun, or launcher=none")
    for role in ("teacher", "student", "method", "data"):
        if getattr(inputs, role) is not None:
            raise InputError(
                f"launcher=ray: {role} is a Python object, which is not sent to other processes; give a name, a "
                "folder, text, or package.module:function, or start the script with torchrun"
            )


def _threads(processes: int, *, own: bool) -> int:
    """Threads of each process: OMP_NUM_THREADS, else on a cluster of our own its part of the cores, else 1."""
    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()  # PyTorch has read the variable
    return max(1, torch.get_num_threads() // processes) if own else 1


@contextmanager
def _marker(recipe: Recipe) -> Iterator[str]:
    """A file in the ``runs`` folder, by which each process checks that it sees the same disk."""
    marker = Path(recipe.run.runs) / f".ray.{secrets.token_hex(4)}.tmp"
    try:
        make_folder(marker.parent)
        marker.touch()
    except OSError as error:
        raise InputError(
            f"runs={recipe.run.runs}: nothing can be written there ({error.strerror}); choose another folder"
        ) from error
    try:
        yield str(marker)
    finally:
        marker.unlink(missing_ok=True)


def _fit(work: Work, count: int, *, gpu: bool, storage: str) -> Future[None]:
    """Run Ray's trainer in a thread, because it takes over SIGINT in the main one."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": work.threads} | ({"GPU": 1} if gpu else {})
    trainer = TorchTrainer(
        _work,
        train_loop_config={"work": work},
        scaling_config=ScalingConfig(num_workers=count, use_gpu=gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name="run", storage_path=storage,
            failure_config=FailureConfig(max_failures=work.recipe.launch.max_restarts),
        ),
    )  # fmt: skip
    future: Future[None] = Future()

    def run() -> None:
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001  raised again by the main thread
            future.set_exception(error)
        else:
            future.set_result(None)

    threading.Thread(target=run, name="ray train", daemon=True).start()
    return future


def _follow(ray: Any, fit: Future[None], mailbox: Any, stop: StopRequest, reporter: Reporter) -> None:
    """Print the lines of the processes and pass a request to stop on, until the run has ended."""
    asked = 0.0
    while True:
        over = fit.done()
        news: News = ray.get(mailbox.exchange.remote(stop.signal_number))
        for line in news.lines:
            reporter.say(line)
        if news.end is not None:
            raise _error(*news.end, stop)
        if over:
            break
        if stop.signal_number and not asked:
            asked = time.monotonic()
        if asked and (not news.training or time.monotonic() - asked > SECONDS_TO_SAVE):
            state = "its last checkpoint, for its processes did not save in time" if news.training else "where it was"
            raise Stopped(f"stopped; the same command continues the run from {state}", stop.signal_number)
        wait([fit], timeout=LOOK_SECONDS)
    if (error := fit.exception()) is not None:
        raise ChildProcessError(f"the processes of the run failed; the same command continues it\n{error}") from None


def _error(kind: str, message: str, stop: StopRequest) -> Exception:
    """The error of a process, as a run of one process would have raised it."""
    if kind == Stopped.__name__:
        return Stopped(message, stop.signal_number)
    return Diverged(message) if kind == Diverged.__name__ else InputError(message)


def _work(config: dict[str, Any]) -> None:
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
        _enter(work)
        if rank == 0:
            _take_over(work, ray.get(work.mailbox.start.remote()), reporter)
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


def _enter(work: Work) -> None:
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


def _take_over(work: Work, start: int, reporter: Reporter) -> None:
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
