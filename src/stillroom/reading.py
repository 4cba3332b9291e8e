"""Read text, YAML, JSON and XML files safely; any file may come from somebody else.

Refused are files that are not regular (pipes block for ever, devices never end), files that are larger than any real
file of their kind, duplicate names in a mapping, and YAML whose aliases expand to many times its size.
"""

from __future__ import annotations

import json
import os
import stat
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Collection
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import yaml

from stillroom.errors import InputError, first_line
from stillroom.files import shown

TEXT_BYTES = 64 * 2**20  # the metrics of 100,000 epochs need less
YAML_BYTES = 2**18  # settings and comparisons are smaller; PyYAML needs seconds for this size
XML_BYTES = 2**22  # the annotations of an image with thousands of objects need less
EXPANDED = 4 * YAML_BYTES  # characters of a YAML file with every alias expanded


class UnreadableError(InputError):
    """A file does not have the expected content.

    Attributes:
        path: the file.
        reason: what is wrong, without the file's name.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{shown(path)} cannot be read ({reason})")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[UnreadableError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is not a regular file.
    """
    # Open first without blocking, then check the kind of file: it cannot be exchanged in between.
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UnreadableError(path, "it is not a regular file")
    return os.fdopen(number, "rb")


def read_text(path: Path, most: int = TEXT_BYTES) -> str:
    """Read a UTF-8 file.

    Args:
        path: the file.
        most: maximum size in bytes.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is not a regular file, is too large, or is not UTF-8.
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
    """Read a YAML file into plain values; no code in it is run.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is not YAML, or is refused as described above.
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


def read_json(path: Path, most: int = TEXT_BYTES, without: Collection[str] = ()) -> Any:
    """Read a JSON file into plain values.

    Args:
        path: the file.
        most: maximum size in bytes.
        without: names in mappings that are left out; their values are freed while the file is read.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is not JSON, or is refused as described above.
    """
    return parse_json(read_text(path, most), path, without)


def read_xml(path: Path) -> ET.Element:
    """Read an XML file and return its root element. It must be UTF-8, whatever encoding it declares.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: it is not XML, or is refused as described above.
    """
    text = read_text(path, XML_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UnreadableError(path, "it declares a document type")
    try:
        return ET.fromstring(text)  # noqa: S314  see above
    except (ET.ParseError, ValueError) as error:
        raise UnreadableError(path, first_line(error)) from error


def read_json_lines(path: Path) -> list[Any]:
    """Read a file with one JSON value per line.

    Raises:
        OSError: it is missing or may not be read.
        UnreadableError: as for :func:`read_json`.
    """
    return [parse_json(line, path) for line in read_text(path).splitlines()]


def parse_json(text: str, path: Path, without: Collection[str] = ()) -> Any:
    """Parse JSON text from a file.

    Args:
        text: the JSON.
        path: the file, for messages.
        without: names in mappings that are left out.

    Raises:
        UnreadableError: it is not JSON, or a mapping has a name twice.
    """
    try:
        return json.loads(text, object_pairs_hook=partial(_unique_names, without))
    except RecursionError as error:
        raise UnreadableError(path, "it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError(path, first_line(error)) from error


def _unique_names(without: Collection[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{twice} is there twice")
    for name in without:
        found.pop(name, None)
    return found


def _check(root: yaml.Node | None) -> None:
    """Refuse aliases that expand too much or contain themselves, and duplicate names.

    Raises:
        ValueError: one of these occurs.
    """
    sizes: dict[int, int] = {}  # node -> characters with aliases expanded; 0 while it is measured

    def size(node: yaml.Node) -> int:
        if id(node) in sizes:
            if not sizes[id(node)]:
                raise ValueError(f"an alias contains itself, {_line(node)}")
            return sizes[id(node)]
        sizes[id(node)] = 0
        if isinstance(node, yaml.MappingNode):
            _refuse_doubles(node)
            count = 2 + sum(size(part) for pair in node.value for part in pair)
        else:
            count = 2 + (sum(map(size, node.value)) if isinstance(node, yaml.SequenceNode) else len(node.value))
        if count > EXPANDED:
            raise ValueError(f"with its aliases expanded it has more than {EXPANDED:,} characters, {_line(node)}")
        sizes[id(node)] = count
        return count

    if root is not None:
        size(root)


def _refuse_doubles(node: yaml.MappingNode) -> None:
    names = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":  # merge keys may repeat
            if (key.tag, key.value) in names:
                raise ValueError(f"{key.value} is there twice, {_line(key)}")
            names.add((key.tag, key.value))


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
