"""Matlab file: read the tables of a data set that are published as ``.mat``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.reading import open_file


def read_matlab(path: Path, instead: str = "", again: str = "unpack the set again") -> Mapping[str, Any]:
    """Read the variables of a Matlab file as arrays without axes of length 1.

    Args:
        path: the file.
        instead: what else to do where scipy is missing, for the message.
        again: what to do where the file cannot be read, for the message.

    Raises:
        InputError: scipy is missing, or the file cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError:
        other = f"; or {instead}" if instead else ""
        raise InputError(f"{shown(path)} is a Matlab file, which needs scipy: pip install scipy{other}") from None
    try:
        with open_file(path) as file:
            found: Mapping[str, Any] = loadmat(file, squeeze_me=True)
    except Exception as error:  # noqa: BLE001  a damaged file can make scipy raise anything
        raise InputError(f"{shown(path)} cannot be read ({type(error).__name__}); {again}") from None
    return found
