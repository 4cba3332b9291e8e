"""Device, precision and process group of a run. Each process uses one device; torchrun starts several processes."""

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
    """Device, precision and rank of one process of a run.

    Attributes:
        device: of this process.
        precision: "32", or "bf16" for autocast.
        rank: this process, 0 to ``world_size - 1``; rank 0 writes the run folder and prints messages.
        world_size: number of processes of the run, >= 1.
    """

    device: torch.device
    precision: str
    rank: int = 0
    world_size: int = 1

    def autocast(self) -> AbstractContextManager[None]:
        """Autocast context of forward passes; it does nothing at precision 32."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def clock(self) -> float:
        """Time in seconds after the device has finished its queue. Synchronizing costs speed."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)
        return time.perf_counter()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes the run folder."""
        return self.rank == 0


def make_machine(accelerator: str, precision: str) -> Machine:
    """Find the device of this process. Precision "auto" is bf16 on hardware with native bf16, else 32.

    Args:
        accelerator: auto, cpu, cuda or mps.
        precision: 32, bf16 or auto.

    Raises:
        InputError: the accelerator is not available, or has fewer devices than this machine has processes.
    """
    kind = _find(accelerator)
    if precision == "auto":
        precision = "bf16" if has_native_bf16(kind) else "32"
    rank, world_size, place = (int(os.environ.get(name, 0)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if kind != "cuda":
        return Machine(torch.device(kind), precision, rank, max(world_size, 1))
    if place >= (gpus := torch.cuda.device_count()):
        raise InputError(
            f"torchrun started {place + 1} or more processes on a machine with {counted(gpus, 'GPU')}; "
            "lower --nproc-per-node: one process uses one GPU"
        )
    torch.cuda.set_device(place)
    return Machine(torch.device("cuda", place), precision, rank, max(world_size, 1))


def _find(accelerator: str) -> str:
    """The device type for an accelerator setting."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if accelerator == "auto":
        return next(kind for kind, found in available.items() if found)
    if not available[accelerator]:
        raise InputError(
            f"accelerator={accelerator}: PyTorch finds no such device on this machine; use accelerator=cpu or auto"
        )
    return accelerator


def has_native_bf16(kind: str) -> bool:
    """Whether a device type computes in bf16 natively: CUDA devices with bf16, CPUs with AVX-512 BF16 or AMX.

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
    """Process group of a run, as a context; does nothing for one process or inside a group made by the caller.

    A script may enter it repeatedly, and each time makes a new group. If the block ends with an error, this process
    leaves the group at once, so that the others stop waiting for it.
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
        distributed.barrier()  # no process leaves while another waits for it
    except BaseException:
        _leave_at_once()
        raise
    distributed.destroy_process_group()


_groups = itertools.count()  # the same numbers in every process, because all processes make the same runs


@functools.cache
def _store() -> Store:
    """Rendezvous store of the processes; kept until the process ends, because rank 0 hosts it for the others."""
    store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
    # After a restart, torchrun's store still holds the addresses of the processes that died.
    return PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _leave_at_once() -> None:
    """Leave the group without waiting for the other processes, which may have ended."""
    if distributed.get_backend() == "nccl":
        distributed_c10d._abort_process_group()
    else:
        distributed.destroy_process_group()
