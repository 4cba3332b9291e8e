"""Read checkpoint files safely: no code in them is run."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import psutil
import torch
from torch import Tensor

from stillroom.errors import InputError, first_line
from stillroom.files import shown
from stillroom.reading import UnreadableError, open_file

_EMA_NESTS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
_NESTS = ("model", "state_dict", "model_state_dict", "net", "module")
_MAX_NESTING = 3  # keys that lead to a state dict
_TORCH_STARTS = (b"PK", b"\x80")
_MAX_GROWTH = 10  # torch stores tensors uncompressed, so content this many times larger than the file is an attack
# Types of the numbers that training scripts store beside the weights: best accuracy, epoch, learning rate.
_NUMBERS = (np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8, np.bool_)


class StoredState(NamedTuple):
    """A state dict in a file.

    Attributes:
        tensors: by name, on the CPU.
        place: the keys under which the file holds it, joined by dots; empty for a bare state dict.
        averaged: whether it is an exponential moving average (EMA) of the weights.
    """

    tensors: dict[str, Any]
    place: str
    averaged: bool


def read_checkpoint(path: str | Path, *, ema: bool = True) -> dict[str, Any]:
    """Read the tensors of a safetensors or torch file; see :func:`read_state`."""
    return read_state(path, ema=ema).tensors


def read_state(path: str | Path, *, ema: bool = True) -> StoredState:
    """Read the state dict of a safetensors or torch file.

    Torch files are unpickled with torch's allow-list (``weights_only``) plus numpy numbers, which cannot run code. All
    other objects are refused before they are created.

    Args:
        path: the file. Its content, not its suffix, decides which kind it is.
        ema: whether the exponential moving average of the weights is taken where the file has both, as timm's
            ``load_checkpoint`` does. Where it has one, that one is taken.

    Returns:
        Names to tensors on the CPU: the file's own mapping, or the one under ``model``, ``state_dict``,
        ``model_state_dict``, ``net`` or ``module``, or, averaged, under ``state_dict_ema``, ``model_ema``,
        ``ema_state_dict`` or ``ema``. Names are as stored.

    Raises:
        InputError: the file is missing, damaged, has no tensors, or contains objects that would run code.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise InputError(f"there is no checkpoint file {shown(path)}; check the path")
        content = _safetensors_state(path) if _is_safetensors(path) else _torch_state(path)
    except OSError as error:  # no permission, or the name is too long
        raise InputError(
            f"the checkpoint {shown(path)} cannot be opened: {error.strerror or first_line(error)}"
        ) from error
    keys = (*_EMA_NESTS, *_NESTS) if ema else (*_NESTS, *_EMA_NESTS)
    found = _find_state(content, keys)
    if found is not None:
        place, state = found
        return StoredState(dict(state), ".".join(place), not set(place).isdisjoint(_EMA_NESTS))
    if isinstance(content, Mapping):
        held = f"a mapping with the keys {', '.join(shown(str(name), 80) for name in list(content)[:5]) or '(none)'}"
    else:
        held = f"a {type(content).__name__}"
    raise InputError(f"{path} holds {held} and no state dict; save model.state_dict(), bare or under the key 'model'")


def _is_safetensors(path: Path) -> bool:
    """Decide by content: eight bytes of length, then JSON. The suffix decides for very short files."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or (path.suffix == ".safetensors" and not start.startswith(_TORCH_STARTS))


def _safetensors_state(path: Path) -> dict[str, Tensor]:
    try:
        return read_safetensors(path)[0]
    except UnreadableError as error:
        raise InputError(f"{path} is damaged or not a safetensors file ({error.reason}); download it again") from error


def _torch_state(path: Path) -> Any:
    """Read a torch file; errors say what to do."""
    try:
        return read_torch(path)
    except HoldsCodeError as error:
        raise InputError(
            f"{path} was refused and nothing in it was run: {error.reason}; where it was made, save "
            "model.state_dict() instead"
        ) from None
    except UnreadableError as error:
        raise InputError(
            f"{path} is damaged or not a checkpoint ({error.reason}); nothing in it was run; download it again"
        ) from error


class HoldsCodeError(UnreadableError):
    """A file contains objects that would run code when loaded."""


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a safetensors file and the text in its header.

    Headers that do not match the file's size, overlapping tensors and wrong shapes are refused.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is damaged or another kind of file.
    """
    from safetensors import SafetensorError, safe_open

    open_file(path).close()
    try:
        with safe_open(path, framework="pt") as file:
            names: list[str] = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise UnreadableError(path, first_line(error)) from error


def read_torch(path: Path) -> Any:
    """Read a torch file with torch's allow-list.

    Raises:
        OSError: it is missing or may not be read.
        HoldsCodeError: it contains objects that would run code; nothing was run.
        UnreadableError: it is damaged, another kind of file, or expands to many times its size.
    """
    with open_file(path) as file:  # given a path, torch decides by the suffix
        _check_unpacked_size(path, file)
        try:
            with torch.serialization.safe_globals(_numpy_numbers()), warnings.catch_warnings():
                # Torch warns about other pickle protocols; errors below say whether the file can be read.
                warnings.simplefilter("ignore", UserWarning)
                content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = re.search(r"GLOBAL ([\w.]+)", str(error))
            if refused is None:
                raise UnreadableError(path, "its content is not a pickle of tensors") from None
            raise HoldsCodeError(path, f"it holds the Python object {refused[1]}, not only tensors") from None
        except Exception as error:  # a damaged file can make torch raise anything
            if "TorchScript" in str(error):
                raise HoldsCodeError(path, "it is a TorchScript archive, which holds a program") from None
            raise UnreadableError(path, first_line(error)[:120]) from error
    _check_tensor_sizes(path, content)
    return content


def _check_unpacked_size(path: Path, file: IO[bytes]) -> None:
    """Refuse archives that unpack to far more bytes than the file has; rewinds the file."""
    size, unpacked = path.stat().st_size, 0
    try:
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, struct.error):
        pass  # not an archive, or a damaged one: torch reports it
    file.seek(0)
    free = psutil.virtual_memory().available
    if unpacked > _MAX_GROWTH * size:
        raise UnreadableError(path, f"its {size / 1e6:.1f} MB unpack to {unpacked / 1e6:.1f} MB")
    if unpacked > free:
        raise UnreadableError(path, f"it unpacks to {unpacked / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are free")


def _check_tensor_sizes(path: Path, content: Any) -> None:
    """Refuse tensors that are many times larger than their file, such as views that repeat a few bytes."""
    claimed, waiting, seen = 0, [content], set()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Mapping):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
            claimed += value.numel() * value.element_size()
    if claimed > _MAX_GROWTH * path.stat().st_size:
        raise UnreadableError(path, f"its tensors claim {claimed / 1e6:,.1f} MB, many times the size of the file")


def _numpy_numbers() -> list[Any]:
    """Return what unpickling a numpy scalar calls: its constructor by the names of numpy 1 and 2, and the dtypes."""
    maker: Any = np.float64(0).__reduce__()[0]
    dtypes = [type(np.dtype(number)) for number in _NUMBERS]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [*((maker, name) for name in names), np.dtype, *dtypes]


def _find_state(
    content: Any, keys: Sequence[str], place: tuple[str, ...] = ()
) -> tuple[tuple[str, ...], Mapping[str, Any]] | None:
    """Find the mapping from names to tensors in a checkpoint.

    Args:
        content: of the file.
        keys: under which one may be, the preferred first.
        place: the keys that lead to ``content``.

    Returns:
        The keys that lead to it, and the mapping; None if there is none.
    """
    if not isinstance(content, Mapping) or len(place) > _MAX_NESTING:
        return None
    for key in keys:
        if (found := _find_state(content.get(key), keys, (*place, key))) is not None:
            return found
    state = {str(name): value for name, value in content.items()}
    return (place, state) if any(isinstance(value, Tensor) for value in state.values()) else None
