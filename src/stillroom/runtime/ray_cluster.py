"""Connection to a Ray cluster, shared by comparisons and by runs of several processes."""

from __future__ import annotations

import logging
import os
import socket
from types import ModuleType
from typing import Any

from stillroom.errors import InputError, first_line
from stillroom.runtime.signals import handlers_kept

SECONDS_TO_CONNECT = 10  # after this a cluster counts as unreachable


def connect_to_ray(address: str, cores: int) -> ModuleType:
    """Connect to a Ray cluster, or start one on this machine.

    Args:
        address: "local" to start one on this machine, "auto" for the one that is running, or an address.
        cores: processor cores of a cluster that is started here.

    Returns:
        The module ``ray``; its ``shutdown()`` disconnects and ends what was begun on the cluster.

    Raises:
        InputError: Ray is not installed, or the cluster cannot be reached.
    """
    # Otherwise Ray would upload this folder and start `uv run` on every worker.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        import ray
    except ImportError as error:
        raise InputError(f"ray={address}: Ray is not installed; install stillroom[ray]") from error
    _refuse_silent(address)
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
    try:
        with handlers_kept():  # Ray's own end this process at SIGTERM
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"ray={address}: cannot be reached ({first_line(error)})") from error
    module: ModuleType = ray
    return module


def _refuse_silent(address: str) -> None:
    """Refuse an address that accepts no connection; Ray itself would retry for ever.

    Raises:
        InputError: for HOST:PORT or ray://HOST:PORT that takes no connection.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # local, auto, and other forms that Ray knows
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_CONNECT):
            pass
    except (OSError, OverflowError) as error:
        raise InputError(
            f"ray={address}: cannot be reached ({first_line(error)}); is a cluster running there?"
        ) from error
