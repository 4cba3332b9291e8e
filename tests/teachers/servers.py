"""Reference servers for tests: processes on the loopback address (``tests/inference_server.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

from tests import inference_server


class Server:
    """A reference server.

    Args:
        model: ONNX file.
        log: where it writes a line for each image.
        *options: of its command line.
    """

    def __init__(self, model: Path, log: Path, *options: str) -> None:
        self.log, self.port = log, 0
        self._command = [sys.executable, inference_server.__file__, str(model), "--log", str(log), *options]
        self.start()

    def start(self) -> None:
        """Start the process, again on the port that it had."""
        self.process = subprocess.Popen([*self._command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def behave(self, **behaviour: object) -> None:
        """Set the behaviour; what is left out is the default."""
        request = urllib.request.Request(f"{self.address}/test/behave", json.dumps(behaviour).encode(), method="POST")
        urllib.request.urlopen(request).close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.address}/v2/models/net"

    @property
    def images(self) -> list[str]:
        """A digest for each image that it predicted, in this process and in those before it."""
        return self.log.read_text().split() if self.log.exists() else []
