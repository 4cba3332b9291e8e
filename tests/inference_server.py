"""A model server of the Open Inference Protocol v2 in a process of its own: the reference that tests talk to.

    python tests/inference_server.py MODEL.onnx --log images.txt [--port 0] [--key KEY] [--binary] ...

It prints its port, and writes a line to the log for each image that it has predicted: a digest of the image's values.
The log outlives the process. ``POST /test/behave`` changes how it behaves; the names are those of :class:`Behaviour`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

DATATYPES = {
    "tensor(float16)": ("FP16", "<f2"),
    "tensor(float)": ("FP32", "<f4"),
    "tensor(double)": ("FP64", "<f8"),
    "tensor(int64)": ("INT64", "<i8"),
}
NUMPY = dict(DATATYPES.values())
JSON_LENGTH = "Inference-Header-Content-Length"


@dataclass
class Behaviour:
    """How requests for predictions are served.

    Attributes:
        fail: this many requests get ``status``.
        status: the status of a failure.
        retry_after: header of a failure; empty for none.
        delay: seconds before a response.
        exit_after: the process ends, as if it were killed, when this many requests are answered; -1 for never.
        rows_lost: rows that are missing in a response.
        version: the version that a response names; empty for the model's.
        nan: whether predictions are NaN.
    """

    fail: int = 0
    status: int = 503
    retry_after: str = ""
    delay: float = 0.0
    exit_after: int = -1
    rows_lost: int = 0
    version: str = ""
    nan: bool = False


class ServedModel:
    """An ONNX file behind the protocol.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        import onnxruntime

        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(options.model, session_options, ["CPUExecutionProvider"])
        self.options, self.behaviour, self.lock = options, Behaviour(), Lock()
        self.path = f"/v2/models/{options.name}"

    def metadata(self) -> dict[str, Any]:
        """The model's metadata."""

        def tensors(nodes: list[Any]) -> list[dict[str, Any]]:
            return [
                {
                    "name": node.name,
                    "datatype": DATATYPES[node.type][0],
                    "shape": [side if isinstance(side, int) else -1 for side in node.shape],
                }
                for node in nodes
            ]

        versions = [version for version in self.options.versions.split(",") if version]
        return {
            "name": self.options.name,
            "versions": versions,
            "platform": "onnx_test",
            "inputs": tensors(self.session.get_inputs()),
            "outputs": tensors(self.session.get_outputs()),
        }

    def predict(self, request: dict[str, Any], raw: bytes) -> tuple[dict[str, Any], bytes]:
        """The response's JSON and the bytes that follow it."""
        feed, images = {}, []
        for entry in request["inputs"]:
            numpy_type = NUMPY[entry["datatype"]]
            size = entry.get("parameters", {}).get("binary_data_size")
            values = np.frombuffer(raw[:size], numpy_type) if size is not None else np.array(entry["data"], numpy_type)
            raw = raw[size or 0 :]
            feed[entry["name"]] = values.reshape(entry["shape"])
            images = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in feed[entry["name"]]]
        kinds = {node.name: DATATYPES[node.type] for node in self.session.get_outputs()}
        asked = request.get("outputs") or [{"name": name} for name in kinds]
        found = self.session.run([entry["name"] for entry in asked], feed)
        outputs, tail = [], b""
        for entry, values in zip(asked, found, strict=True):
            datatype, numpy_type = kinds[entry["name"]]
            values = values[: len(values) - self.behaviour.rows_lost]
            values = np.full_like(values, np.nan) if self.behaviour.nan else values
            output = {"name": entry["name"], "shape": list(values.shape), "datatype": datatype}
            if entry.get("parameters", {}).get("binary_data"):
                part = values.astype(numpy_type).tobytes()
                output["parameters"] = {"binary_data_size": len(part)}
                tail += part
            else:
                output["data"] = values.flatten().tolist()
            outputs.append(output)
        with self.lock, Path(self.options.log).open("a", encoding="utf-8") as log:
            log.writelines(f"{image}\n" for image in images)
        version = self.behaviour.version or self.options.versions.split(",")[-1]
        return {"model_name": self.options.name, "model_version": version, "outputs": outputs}, tail


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    model: ServedModel

    def do_GET(self) -> None:
        """Health and metadata."""
        if not self.allowed():
            return
        extensions = ["binary_tensor_data"] if self.model.options.binary else []
        known = {
            "/v2": {"name": "test", "version": "1", "extensions": extensions},
            "/v2/health/live": {},
            "/v2/health/ready": {},
            self.model.path: self.model.metadata(),
            f"{self.model.path}/ready": {},
        }
        for version in self.model.options.versions.split(","):
            known[f"{self.model.path}/versions/{version}"] = known[self.model.path]
        if self.path in known:
            self.reply(200, known[self.path])
        else:
            self.reply(404, {"error": f"unknown: {self.path}"})

    def do_POST(self) -> None:
        """Predictions, and the behaviour of this server."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        behaviour = self.model.behaviour
        if self.path == "/test/behave":
            self.model.behaviour = Behaviour(**json.loads(body))
            self.reply(200, {})
            return
        if not self.allowed():
            return
        if not (self.path.startswith(self.model.path) and self.path.endswith("/infer")):
            self.reply(404, {"error": f"unknown: {self.path}"})
            return
        with self.model.lock:
            failing, behaviour.fail = behaviour.fail > 0, behaviour.fail - 1
        time.sleep(behaviour.delay)
        if failing:
            self.reply(behaviour.status, {"error": "told to fail"}, retry_after=behaviour.retry_after)
            return
        length = int(self.headers.get(JSON_LENGTH) or len(body))
        try:
            facts, tail = self.model.predict(json.loads(body[:length]), body[length:])
        except Exception as error:  # noqa: BLE001  whatever the model or the request is
            self.reply(400, {"error": str(error)})
            return
        self.reply(200, facts, tail)
        with self.model.lock:
            behaviour.exit_after -= 1
            if behaviour.exit_after == 0:
                os._exit(9)

    def allowed(self) -> bool:
        """Refuse a request without the key."""
        given, key = self.headers.get("Authorization"), self.model.options.key
        if not key or given == f"Bearer {key}":
            return True
        self.reply(401, {"error": f"not accepted: {given}"})
        return False

    def reply(self, status: int, facts: dict[str, Any], tail: bytes = b"", retry_after: str = "") -> None:
        """Send a response."""
        header = json.dumps(facts).encode()
        self.send_response(status)
        if retry_after:
            self.send_header("Retry-After", retry_after)
        if tail:
            self.send_header(JSON_LENGTH, str(len(header)))
        self.send_header("Content-Length", str(len(header) + len(tail)))
        with suppress(ConnectionError):  # the client no longer waits
            self.end_headers()
            self.wfile.write(header + tail)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Print nothing."""


def main() -> None:
    """Serve until the process is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--log", required=True)
    parser.add_argument("--name", default="net")
    parser.add_argument("--versions", default="1", help="separated by commas; empty for a server that names none")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="")
    parser.add_argument("--binary", action="store_true")
    Handler.model = ServedModel(parser.parse_args())
    server = ThreadingHTTPServer(("127.0.0.1", Handler.model.options.port), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
