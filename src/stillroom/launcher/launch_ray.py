"""Launch a run on a Ray cluster: one process per device through Ray Train, restarted from the last checkpoint.

The caller's process is the driver: it starts the processes, prints the lines of process 0, and passes requests to stop
on. Ray Train makes the process group and starts all processes again when one of them has failed. The run folder is
their only shared state, so Ray's own checkpoints are not used.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from stillroom.config import Recipe
from stillroom.errors import Diverged, InputError, Stopped
from stillroom.extras import require
from stillroom.files import make_folder
from stillroom.formatting import counted
from stillroom.launcher.mailbox import Mailbox, News
from stillroom.launcher.ray_process import Train, Work, ray_process
from stillroom.prepare.python_inputs import Inputs
from stillroom.runtime.ray_cluster import connect_to_ray
from stillroom.runtime.reporters import Reporter
from stillroom.runtime.signals import StopRequest, stop_requests

LOOK_SECONDS = 0.3
SECONDS_TO_SAVE = 60  # what the processes have for the current step and the checkpoint after a request to stop


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
        ray = connect_to_ray(options.ray, threads * (options.processes or torch.accelerator.device_count() or 1))
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
        ray_process,
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
