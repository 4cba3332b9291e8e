"""ONNX file: open it in onnxruntime, and compute a digest of its content with all external data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from stillroom.errors import InputError, first_line
from stillroom.files import shown
from stillroom.reading import open_file


def open_session(path: Path, threads: int, device: torch.device | None = None) -> Any:
    """An onnxruntime session with so many CPU threads.

    Args:
        path: the model.
        threads: within one operator; operators run one after the other.
        device: a CUDA device, used if onnxruntime was built for it; every other device is the CPU.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    providers: list[Any] = ["CPUExecutionProvider"]
    built_for = onnxruntime.get_available_providers()
    if device is not None and device.type == "cuda" and "CUDAExecutionProvider" in built_for:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    return onnxruntime.InferenceSession(str(path), options, providers=providers)


def onnx_digest(path: Path) -> str:
    """SHA-256 of an ONNX file and of the files that hold its external data, 64 hexadecimal digits.

    Args:
        path: the model.

    Raises:
        InputError: the file is missing or is not an ONNX model, or a file of external data is missing or lies outside
            the model's folder.
    """
    digest = hashlib.sha256(_file_digest(path, path))
    for location in sorted(_external_locations(path)):
        place = PurePosixPath(location)
        if place.is_absolute() or ".." in place.parts:
            raise InputError(f"{shown(path)}: its external data {shown(location)} lie outside its folder")
        digest.update(location.encode() + b"\0" + _file_digest(path.parent / place, path))
    return digest.hexdigest()


def _file_digest(file: Path, model: Path) -> bytes:
    try:
        with open_file(file) as content:
            return hashlib.file_digest(content, "sha256").digest()
    except OSError as error:
        part = "" if file == model else f", which holds external data of {shown(model)},"
        raise InputError(f"{shown(file)}{part} cannot be read ({error.strerror or error})") from error


def onnx_metadata(path: Path) -> dict[str, str]:
    """The texts that an ONNX file has about itself, by name.

    Raises:
        InputError: the file is not an ONNX model.
    """
    return {entry.key: entry.value for entry in _read(path).metadata_props}


def _read(path: Path) -> Any:
    """The model in a file, without external data."""
    import onnx

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own class
        raise InputError(f"{shown(path)} is not an ONNX file ({first_line(error)})") from error
    if not model.graph.output:  # text and other bytes may parse as an empty model
        raise InputError(f"{shown(path)} is not an ONNX file (it has no graph)")
    return model


def _external_locations(path: Path) -> set[str]:
    """The files of a model's external data, as the model names them."""
    import onnx

    return {
        entry.value
        for message in _messages(_read(path))
        if isinstance(message, onnx.TensorProto)
        for entry in message.external_data
        if entry.key == "location"
    }


def _messages(message: Any) -> Iterator[Any]:
    """A protobuf message and all messages within it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from _messages(part)
