"""Reading checkpoint files without ever running their code."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stillroom.errors import InputError, first_line
from stillroom.files import shown

_NESTS = ("model", "state_dict", "model_state_dict", "net")
_TORCH_STARTS = (b"PK", b"\x80")
_BLOWN_UP = 10  # torch stores tensors as they are; nothing honest unpacks to so many times the file
# The numbers that training scripts keep beside the weights: best accuracy, epoch, learning rate.
_NUMBERS = (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The state dict in a safetensors or torch file.

    Torch files are unpickled with torch's allow-list (``weights_only``), widened by plain numpy numbers,
    which cannot run anything; every other object is refused before it is made.

    Args:
        path: the file. Its content, not its suffix, says which kind it is.

    Returns:
        Names to tensors on the CPU: the file's own mapping, or the one under ``model``, ``state_dict``,
        ``model_state_dict`` or ``net``. Names are as stored.

    Raises:
        InputError: the file is missing, damaged, empty of tensors, or holds objects that loading would have
            to run.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"there is no checkpoint file {shown(path)}; check the path")
        content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    except OSError as error:  # closed, behind a closed folder, or too long a name
        raise InputError(
            f"the checkpoint {shown(path)} cannot be opened: {error.strerror or first_line(error)}"
        ) from error
    return _state_dict_in(content, path)


def _is_safetensors(path: Path) -> bool:
    """By content: eight bytes of length, then JSON. The suffix decides for a file too short to tell."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or (path.suffix == ".safetensors" and not start.startswith(_TORCH_STARTS))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is damaged or no safetensors file ({first_line(error)}); fetch it again") from error
    return tensors


def _read_torch(path: Path) -> Any:
    """Unpickle under the allow-list and turn every failure into one line."""
    _check_unpacked(path)
    try:
        with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
            # Torch remarks on other pickle protocols; whether the file can be read is said below.
            warnings.simplefilter("ignore", UserWarning)
            with path.open("rb") as file:  # given the path, torch would go by its suffix
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused is None:
            raise InputError(
                f"{path} is damaged or no torch checkpoint; nothing in it was run; fetch it again"
            ) from None
        raise InputError(
            f"{path} was refused and nothing in it was run: it holds the Python object {refused[1]}, "
            "not only tensors; where it was made, save model.state_dict() instead"
        ) from None
    except PermissionError:
        raise
    except Exception as error:  # a damaged file can lead torch to raise anything
        if "TorchScript" in str(error):
            raise InputError(
                f"{path} was refused and nothing in it was run: it is a TorchScript archive, which holds a program; "
                "where it was made, save model.state_dict() instead"
            ) from None
        raise InputError(f"{path} is damaged or no checkpoint ({first_line(error)[:120]}); fetch it again") from error


def _check_unpacked(path: Path) -> None:
    """Refuse an archive that would unpack to far more memory than the file has bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except PermissionError:
        raise
    except Exception:  # noqa: BLE001  no archive, or a damaged one: torch says so
        return
    if unpacked > _BLOWN_UP * path.stat().st_size:
        raise InputError(
            f"{path} was refused: its {path.stat().st_size / 1e6:.1f} MB unpack to {unpacked / 1e6:.1f} MB; "
            "fetch it again"
        )


def _numpy_numbers() -> list[Any]:
    """What unpickling a numpy scalar calls: its maker under the names of numpy 1 and 2, and the dtypes."""
    maker: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(number)) for number in _NUMBERS]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((maker, name) for name in names), np.dtype, *dtypes]


def _state_dict_in(content: Any, path: Path) -> dict[str, Any]:
    """Find the mapping from names to tensors."""
    if isinstance(content, Mapping):
        for nest in _NESTS:
            if isinstance(content.get(nest), Mapping):
                content = content[nest]
                break
        state = {str(name): value for name, value in content.items()}
        if any(isinstance(value, Tensor) for value in state.values()):
            return state
        held = f"a mapping with the keys {', '.join(shown(name, 80) for name in list(state)[:5]) or '(none)'}"
    else:
        held = f"a {type(content).__name__}"
    raise InputError(f"{path} holds {held} and no state dict; save model.state_dict(), bare or under the key 'model'")
