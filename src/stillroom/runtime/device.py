"""Device, number format and processes of a run: one process a device, started by torchrun or alone."""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed
from torch.distributed import distributed_c10d
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from stillroom.errors import InputError
from stillroom.formatting import counted

PATIENCE = timedelta(minutes=30)  # how long a process waits for the others before it gives up


@dataclass(frozen=True)
class Machine:
    """Where one process of a run computes, and how.

    Attributes:
        device: of this process.
        precision: "32", or "bf16" for autocast.
        rank: this process, 0 to ``world_size - 1``; rank 0 writes the run folder and speaks.
        world_size: processes of the run.
    """

    device: torch.device
    precision: str
    rank: int = 0
    world_size: int = 1

    def autocast(self) -> AbstractContextManager[None]:
        """The number format of forward passes."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def clock(self) -> float:
        """Seconds, once the device has done what it was given; waiting for it costs speed."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0


def make_machine(accelerator: str, precision: str) -> Machine:
    """Find the device of this process; "auto" precision is bf16 where the processor computes in it.

    Args:
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.

    Raises:
        InputError: the accelerator is not there, or has fewer devices than there are processes on this machine.
    """
    kind = _find(accelerator)
    if precision == "auto":
        precision = "bf16" if has_native_bf16(kind) else "32"
    rank, world_size, place = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if kind != "cuda":
        return Machine(torch.device(kind), precision, rank, max(world_size, 1))
    if place >= torch.cuda.device_count():
        raise InputError(
            f"torchrun started {place + 1} or more processes here for {counted(torch.cuda.device_count(), 'GPU')}; "
            "lower --nproc-per-node, one process uses one GPU"
        )
    torch.cuda.set_device(place)
    return Machine(torch.device("cuda", place), precision, rank, max(world_size, 1))


def _find(accelerator: str) -> str:
    """The kind of device that is asked for."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(kind for kind, available in there.items() if available)
    if not there[accelerator]:
        raise InputError(f"accelerator={accelerator}: PyTorch sees no such device here; use accelerator=cpu or auto")
    return accelerator


def has_native_bf16(kind: str) -> bool:
    """Whether bf16 is worth it: CUDA devices that compute in it, CPUs with AVX-512 BF16 or AMX.

    Args:
        kind: cpu, cuda or mps.
    """
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind == "mps":
        return False
    probes = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(probe is not None and probe() for probe in probes)


@contextmanager
def processes_joined(machine: Machine) -> Iterator[None]:
    """Join this process with the others for as long as it lasts; alone, or in a group made by the caller, nothing.

    A script may do so again and again. Each time is a group of its own: where one ends with an error, the processes
    that wait for this one are told, and the next group begins from nothing.
    """
    if machine.world_size == 1 or distributed.is_initialized():
        yield
        return
    device = machine.device if machine.device.type == "cuda" else None
    distributed.init_process_group(
        "nccl" if device else "gloo", store=PrefixStore(f"group {next(_groups)}", _store()), rank=machine.rank,
        world_size=machine.world_size, timeout=PATIENCE, device_id=device,
    )  # fmt: skip
    try:
        yield
        distributed.barrier()  # nobody leaves while another still waits for an answer
    except BaseException:
        _leave_at_once()
        raise
    distributed.destroy_process_group()


_groups = itertools.count()  # the same in every process of a script, as the runs in it are


@functools.cache
def _store() -> Store:
    """Where processes find each other. One for the life of a process: who is the host of it must not take it away."""
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    # After a restart, torchrun's store still holds the addresses of the processes that died.
    return PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _leave_at_once() -> None:
    """Give up the group without waiting for the others, which may never come."""
    if distributed.get_backend() == "nccl":
        distributed_c10d._abort_process_group()
    else:
        distributed.destroy_process_group()
