"""Open Inference Protocol v2: the addresses, metadata and tensors of a served model, without any network access.

Source: https://github.com/kserve/open-inference-protocol (REST), and for binary tensors the extension
``binary_tensor_data`` that Triton and others list in their server metadata.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import torch
from torch import Tensor

from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.teachers.model_signature import TensorSpec

BINARY = "binary_tensor_data"
JSON_LENGTH = "Inference-Header-Content-Length"  # bytes of the JSON that comes before binary tensors
# Datatype -> PyTorch's, numpy's in little-endian order.
_DATATYPES = {
    "FP16": (torch.float16, "<f2"),
    "FP32": (torch.float32, "<f4"),
    "FP64": (torch.float64, "<f8"),
    "INT8": (torch.int8, "<i1"),
    "UINT8": (torch.uint8, "<u1"),
    "INT16": (torch.int16, "<i2"),
    "INT32": (torch.int32, "<i4"),
    "INT64": (torch.int64, "<i8"),
}
_NAMES = {dtype: name for name, (dtype, _) in _DATATYPES.items()}


class ProtocolError(Exception):
    """A response does not follow the protocol; the message says why."""


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """The address of a served model.

    Attributes:
        server: scheme, host, port and path before ``/v2``.
        name: of the model.
        version: from the address, or None.
    """

    server: str
    name: str
    version: str | None

    @property
    def path(self) -> str:
        """The model's path on the server, from ``/v2``."""
        return f"/v2/models/{self.name}" + (f"/versions/{self.version}" if self.version else "")

    @property
    def exposed(self) -> bool:
        """Whether requests go to another machine without encryption."""
        parts = urlsplit(self.server)
        return parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1")

    def __str__(self) -> str:
        """The whole address."""
        return self.server + self.path


def parse_address(url: str) -> ModelAddress:
    """Take the address of a served model apart.

    Raises:
        InputError: it has another form, or it holds a password or a token. The message does not show the address then.
    """
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    except ValueError as error:
        raise InputError("teacher= is no address that can be read; check its host and port") from error
    if secret:
        raise InputError(
            "teacher= is an address with a user name, a password or parameters after '?' or '#', which would be "
            "written to files and logs; give the address alone, put the API key into an environment variable, and "
            "give the variable's name as teacher_api_key_env="
        )
    found = re.fullmatch(r"(.*?)/v2/models/([^/]+)(?:/versions/([^/]+))?/?", parts.path)
    if parts.scheme not in ("http", "https") or not parts.hostname or found is None:
        raise InputError(
            f"teacher={shown(url)} is no address of a served model; give http(s)://HOST/v2/models/NAME or "
            "http(s)://HOST/v2/models/NAME/versions/VERSION"
        )
    prefix, name, version = found.groups()
    return ModelAddress(f"{parts.scheme}://{parts.netloc}{prefix}", name, version)


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a server says about a model.

    Attributes:
        versions: all that it serves; empty if it names none.
        inputs: of the model.
        outputs: of the model.
        digest: of platform, inputs and outputs, 16 hexadecimal digits.
    """

    versions: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    digest: str


def parse_metadata(body: Any) -> ModelMetadata:
    """Read a model's metadata.

    Args:
        body: the JSON of the server's response.

    Raises:
        ProtocolError: it is no metadata.
    """
    if not isinstance(body, dict):
        raise ProtocolError("the metadata are no JSON object")
    try:
        inputs, outputs = (tuple(map(_spec, body.get(side) or ())) for side in ("inputs", "outputs"))
        versions = tuple(str(version) for version in body.get("versions") or ())
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("the metadata list inputs, outputs or versions in another form") from error
    facts = [body.get("platform", ""), *([[s.name, str(s.dtype), s.shape] for s in side] for side in (inputs, outputs))]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return ModelMetadata(versions, inputs, outputs, digest)


def _spec(entry: dict[str, Any]) -> TensorSpec:
    shape = tuple(None if int(side) < 0 else int(side) for side in entry["shape"])
    return TensorSpec(str(entry["name"]), _DATATYPES.get(entry["datatype"], (None,))[0], shape)


def encode_request(name: str, images: Tensor, outputs: Sequence[str], *, binary: bool) -> tuple[dict[str, str], bytes]:
    """A request for predictions.

    Args:
        name: of the model's input.
        images: contiguous, on the CPU, in the input's type and layout.
        outputs: names of the outputs to return.
        binary: whether to send and to receive tensors as bytes, for servers that list the extension.

    Returns:
        The headers and the body.
    """
    entry: dict[str, Any] = {"name": name, "shape": list(images.shape), "datatype": _NAMES[images.dtype]}
    wanted: list[dict[str, Any]] = [{"name": output} for output in outputs]
    headers = {"Content-Type": "application/json"}
    if not binary:
        entry["data"] = images.flatten().tolist()
        return headers, json.dumps({"inputs": [entry], "outputs": wanted}).encode()
    raw = images.numpy().astype(_DATATYPES[entry["datatype"]][1], copy=False).tobytes()
    entry["parameters"] = {"binary_data_size": len(raw)}
    for output in wanted:
        output["parameters"] = {"binary_data": True}
    header = json.dumps({"inputs": [entry], "outputs": wanted}).encode()
    return {"Content-Type": "application/octet-stream", JSON_LENGTH: str(len(header))}, header + raw


def decode_response(
    body: bytes, json_length: str | None, outputs: Sequence[str], count: int
) -> tuple[list[Tensor], str | None]:
    """The outputs in a response.

    Args:
        body: of the response.
        json_length: its header :data:`JSON_LENGTH`; None where all of it is JSON.
        outputs: names of the outputs, in the order of the result.
        count: number of images that were sent.

    Returns:
        A tensor (count, ...) for each output, and the version of the model that predicted, if the server says so.

    Raises:
        ProtocolError: the response does not follow the protocol, lacks an output, has another number of rows, or has
            values that are not finite.
    """
    try:
        length = len(body) if json_length is None else int(json_length)
        facts, rest = json.loads(body[:length]), body[length:]
        found = {}
        for entry in facts["outputs"]:
            size = (entry.get("parameters") or {}).get("binary_data_size")
            found[entry["name"]] = _tensor(entry, None if size is None else rest[:size])
            rest = rest[size or 0 :]
        tensors = [found[name] for name in outputs]
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ProtocolError(f"its response cannot be read ({type(error).__name__}: {shown(error)})") from error
    for name, tensor in zip(outputs, tensors, strict=True):
        if tensor.ndim == 0 or len(tensor) != count:
            raise ProtocolError(f"output {name} has the shape {tuple(tensor.shape)} for {count} images")
        if not bool(tensor.isfinite().all()):
            raise ProtocolError(f"output {name} has values that are not finite")
    version = facts.get("model_version")
    return tensors, str(version) if version else None


def _tensor(entry: dict[str, Any], raw: bytes | None) -> Tensor:
    dtype, numpy_type = _DATATYPES[entry["datatype"]]
    shape = [int(side) for side in entry["shape"]]
    if raw is not None:
        values = np.frombuffer(raw, numpy_type)
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="))).reshape(shape)
    tensor = torch.tensor(entry["data"], dtype=dtype)  # flat or nested
    if tensor.numel() != math.prod(shape):
        raise ValueError(f"{tensor.numel()} values for the shape {shape}")
    return tensor.reshape(shape)


def error_message(body: bytes) -> str:
    """What a server says about an error, on one line."""
    text = body.decode("utf-8", "replace")
    try:
        facts = json.loads(text)
        said = facts.get("error", facts.get("detail", facts.get("message", text)))
    except (ValueError, AttributeError, RecursionError):
        said = text
    return shown(" ".join(str(said).split()))


def version_of(address: ModelAddress, metadata: ModelMetadata) -> str | None:
    """The version that answers at an address; None if nothing names one.

    Raises:
        InputError: the server has several versions and the address chooses none.
    """
    if address.version is not None:
        return address.version
    if len(metadata.versions) > 1:
        raise InputError(
            f"teacher={address} has the versions {', '.join(metadata.versions)}; choose one: "
            f"{address.server}/v2/models/{unquote(address.name)}/versions/{metadata.versions[-1]}"
        )
    return metadata.versions[0] if metadata.versions else None
