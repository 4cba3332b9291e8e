"""The one door through which text, YAML and JSON from files are read; any file may come from somebody else.

Refused are what is not a regular file (a pipe would block for ever, a device never ends), what is larger than any honest
file of its kind, names that stand twice in one mapping, and YAML whose aliases grow to many times its own size.
"""

from __future__ import annotations

import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from stillroom.errors import InputError, first_line
from stillroom.files import shown

TEXT_BYTES = 64 * 2**20  # a record of a hundred thousand epochs is smaller
YAML_BYTES = 2**18  # settings and the names of a comparison; the reader takes seconds for so much
WRITTEN_OUT = 4 * YAML_BYTES  # characters of a YAML file with a copy in the place of every alias


class UnreadableError(InputError):
    """A file's content is not what it is taken for.

    Attributes:
        path: the file.
        reason: in words, without the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{shown(path)} cannot be read ({reason})")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


def open_file(path: Path) -> BufferedReader:
    """Open an ordinary file for reading; a pipe would block for ever, and a device never end.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is not a regular file.
    """
    # Opened without waiting for a pipe's other end, and asked what it is only then: it cannot change any more.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UnreadableError(path, "it is not a regular file")
    return os.fdopen(number, "rb")


def read_text(path: Path, most: int = TEXT_BYTES) -> str:
    """Read a UTF-8 file.

    Args:
        path: the file.
        most: bytes it may have.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is not a regular file, too large, or no UTF-8.
    """
    with open_file(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise UnreadableError(path, f"it has more than {most:,} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(path, first_line(error)) from error


def read_yaml(path: Path) -> Any:
    """Read a YAML file into plain values; nothing in it is run.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is no YAML, or one of those that this module refuses.
    """
    return parse_yaml(read_text(path, YAML_BYTES), path)


def parse_yaml(text: str, path: Path) -> Any:
    """Read YAML that stands in a file.

    Raises:
        UnreadableError: as for :func:`read_yaml`.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            _check(root)
            return None if root is None else loader.construct_document(root)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise UnreadableError(path, "it is nested too deeply") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise UnreadableError(path, " ".join(str(error).split()) or first_line(error)) from error


def read_json(path: Path) -> Any:
    """Read a JSON file into plain values.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: it is no JSON, or one of those that this module refuses.
    """
    return parse_json(read_text(path), path)


def read_json_lines(path: Path) -> list[Any]:
    """Read a file with one JSON value a line.

    Raises:
        OSError: it is missing or closed.
        UnreadableError: as for :func:`read_json`.
    """
    return [parse_json(line, path) for line in read_text(path).splitlines()]


def parse_json(text: str, path: Path) -> Any:
    """Read JSON that stands in a file.

    Raises:
        UnreadableError: it is no JSON, or a name stands twice in it.
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except RecursionError as error:
        raise UnreadableError(path, "it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(path, first_line(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def _check(root: yaml.Node | None) -> None:
    """Refuse aliases that grow beyond measure or lead back to themselves, and names that stand twice.

    Raises:
        ValueError: saying which.
    """
    sizes: dict[int, int] = {}  # by node: its characters with every alias written out; 0 while it is being measured

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise ValueError(f"an alias leads back to itself, {_line(node)}")
            return sizes[id(node)]
        sizes[id(node)] = 0
        if isinstance(node, yaml.MappingNode):
            _refuse_doubles(node)
            count = 2 + sum(size(part) for pair in node.value for part in pair)
        else:
            count = 2 + (sum(map(size, node.value)) if isinstance(node, yaml.SequenceNode) else len(node.value))
        if count > WRITTEN_OUT:
            raise ValueError(f"with its aliases written out it has more than {WRITTEN_OUT:,} characters, {_line(node)}")
        sizes[id(node)] = count
        return count

    if root is not None:
        size(root)


def _refuse_doubles(node: yaml.MappingNode) -> None:
    names = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":  # of which several may be merged
            if (key.tag, key.value) in names:
                raise ValueError(f"{key.value} is there twice, {_line(key)}")
            names.add((key.tag, key.value))


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
