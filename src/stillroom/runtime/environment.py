"""Environment of a run: versions, machine and state of the code."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from stillroom.runtime.code_version import commit_of, source_digest


def environment() -> dict[str, Any]:
    """Versions, machine and code state, for readers of the numbers."""
    packages = ("stillroom", "torch", "torchvision", "timm", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", 1)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "command": sys.argv,
        "source": source_digest(),
        "git": commit_of(Path.cwd()),
    }
