"""Configuration files: the settings behind ``--config``, and which of them the user typed on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stillroom.errors import InputError, first_line
from stillroom.files import shown
from stillroom.reading import read_yaml
from stillroom.settings import Setting
from stillroom.trust import UntrustedError

TYPED_ONLY = {"trust": "give --trust on the command line", "config": "put all settings into one file",
              "dry_run": "give --dry_run on the command line"}  # fmt: skip


@dataclass
class Arguments:
    """The settings of one command.

    Attributes:
        values: by name; those that were not given are left out.
        files: the settings that only a file gives, with the file.
        trust: whether names in files may be imported and fetched.
        print_config: whether to print all settings and do nothing else.
        dry_run: whether to check everything, time a few steps, and train nothing.
    """

    values: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    trust: bool = False
    print_config: bool = False
    dry_run: bool = False


def read_config_file(path: Path) -> dict[str, Any]:
    """Read the settings in a file.

    Raises:
        InputError: the file cannot be read, holds no settings, or sets what only a command line may.
    """
    try:
        content = read_yaml(path)
    except OSError as error:
        raise InputError(f"config={path} cannot be read ({first_line(error)}); give a YAML file") from error
    if not isinstance(content, dict):
        raise InputError(f"config={path}: it holds no settings; write them as name: value, one a line")
    for name, fix in TYPED_ONLY.items():
        if name in content:
            raise InputError(f"config={path}: a file cannot set {name}; {fix}")
    return {str(name): value for name, value in content.items()}


def with_files(typed: dict[str, Any], paths: Sequence[str], *, trust: bool) -> Arguments:
    """Join typed settings and those of files. A typed one wins over all files, a later file over an earlier one."""
    found = Arguments({}, trust=trust)
    for path in paths:
        content = read_config_file(Path(path))
        found.values |= content
        found.files |= dict.fromkeys(content, path)
    found.values |= typed
    found.files = {name: path for name, path in found.files.items() if name not in typed}
    return found


def refuse_fetching(arguments: Arguments, known: Mapping[str, Setting]) -> None:
    """Refuse published weights that only a file requests: they would be fetched.

    Args:
        arguments: all settings of a command.
        known: their descriptions.

    Raises:
        UntrustedError: with what would be fetched.
    """
    for name, path in arguments.files.items():
        models = arguments.values.get(known[name].fetches, "")
        if known[name].fetches and arguments.values[name]:
            models = models.values() if isinstance(models, Mapping) else models
            named = models if isinstance(models, str) else ", ".join(map(str, models))
            raise UntrustedError(
                f"{shown(path)} sets {name}: the published weights of {shown(named)} would be fetched. Nothing "
                f"was fetched; give --{name} true on the command line, or --trust, if you want that"
            )
