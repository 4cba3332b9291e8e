"""What a run left behind, read as strictly as its readers do."""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
import yaml
from safetensors import safe_open

ASIDE = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
MEASURED = {"seconds", "bank_seconds", "images_per_second", "peak_memory_bytes"}


def files(folder):
    """Every file that is in place: path -> content, but for what only describes the machine.

    Half a file cannot be read and fails here.
    """
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and not ASIDE.fullmatch(path.name) and path.name != ".lock":
            found[str(path.relative_to(folder))] = read(path)
    return {path: content for path, content in found.items() if not path.endswith("environment.json")}


def asides(folder):
    return [path for path in Path(folder).rglob("*") if ASIDE.fullmatch(path.name)]


def read(path):
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return {"tensors": {key: file.get_tensor(key) for key in file.keys()}, "facts": file.metadata()}  # noqa: SIM118
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".yaml":
        return yaml.safe_load(text)
    if path.suffix == ".html":
        assert text.rstrip().endswith("</html>")
        return text
    if path.suffix == ".txt":
        return text
    raise AssertionError(f"nobody reads {path}")


def differences(one, other, where=""):
    """The places in which two contents differ, but for times and memory; tensors are compared bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = sorted({*one, *other} - MEASURED, key=str)
        missing = [f"{where}/{name} is only in one" for name in names if name not in one or name not in other]
        both = [name for name in names if name in one and name in other]
        return missing + [d for name in both for d in differences(one[name], other[name], f"{where}/{name}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [d for i, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{where}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    return [] if type(one) is type(other) and one == other else [where]


class Undisturbed:
    """A run that nobody disturbs: its files, and the seconds it took."""

    def __init__(self, lives, folder, method):
        end = lives.live("distil", folder, method)
        assert end.error == ""
        self.folder, self.files, self.seconds = folder, files(folder), end.seconds

    def size(self, name):
        """Bytes of the first file whose name fits a pattern."""
        return next(path.stat().st_size for path in sorted(self.folder.rglob("*")) if re.fullmatch(name, path.name))


def in_bytes(trouble, undisturbed):
    """Trouble in a write, with the share that is written turned into bytes; other trouble as it is."""
    kind, name, *rest = trouble
    if not kind.endswith("_in_write"):
        return trouble
    return (kind, name, rest[0], int(rest[1] * undisturbed.size(name)))


def goes_on(lives, folder, method, undisturbed):
    """The same command once more ends where the run that nobody disturbed ended."""
    end = lives.live("distil", folder, method)
    assert end.error == ""
    found = differences(files(folder), undisturbed[method].files)
    assert [place for place in found if not re.search(r"/(runs|bank)$", place)] == []  # they lie elsewhere
    assert asides(folder / "run") == []
    assert not (folder / "run" / ".lock").exists()
