"""``stillroom completion``: a script with which a shell completes commands, settings and their values.

The script is static: completing starts no Python. Writing the script does not import PyTorch either: the names of
methods, models and data sets are read from the source of their tables.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Literal, get_args, get_origin

from stillroom.cli_parsers import GROUPS, Parser, kinds_of, settings_of_command
from stillroom.recipes import recipes_folder
from stillroom.settings import members

Makers = Mapping[str, Callable[[], Parser]]  # command -> how its parser is made

FOLDERS = {"root", "runs", "run", "bank", "out", "folders"}
FILES = {"images", "class_names", "config", "table"}
NAMES_OR_FOLDERS = {"model", "student", "teacher", "data"}
LISTS = ("models", "methods", "data", "recipes")


def completion_script(shell: str, commands: Makers) -> str:
    """The script for a shell.

    Args:
        shell: one of ``shtab.SUPPORTED_SHELLS``.
        commands: of the command line.
    """
    import shtab

    root = Parser(prog="stillroom")
    parts = root.add_subparsers(dest="command", parser_class=Parser)
    for name, make in commands.items():
        parser = make()
        for one in (parser, *parsers_in(parser)):
            _add_values(name, one, shell)
        parts.add_parser(name, help=parser.description, parents=[parser], add_help=False)
    functions = (_bash_function(name, known_names()[name]) for name in sorted(NAMES_OR_FOLDERS))
    return str(shtab.complete(root, shell, preamble="\n".join(functions) if shell == "bash" else ""))


def parsers_in(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of the words that follow a command, such as those of ``runs``."""
    found = (action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [inside for choices in found for inside in choices]


def _add_values(command: str, parser: argparse.ArgumentParser, shell: str) -> None:
    """Say for each argument which values, files or folders complete it."""
    import shtab

    has_settings = command in GROUPS
    kinds, known = (kinds_of(command), settings_of_command(command)) if has_settings else ({}, {})
    names = known_names()
    for action in parser._actions:
        name = action.dest
        first = members(kinds[name])[0] if name in kinds else None
        if action.choices or action.nargs == 0:
            continue
        if first is bool or get_origin(first) is Literal:
            action.choices = ["true", "false"] if first is bool else list(map(str, get_args(first)))
        elif command == "list" and name == "what":
            action.choices = LISTS
        elif name in NAMES_OR_FOLDERS and shell == "bash":  # other shells complete names only
            setattr(action, "complete", {"bash": _function_name(name)})  # noqa: B010  shtab reads it
        elif name in names:
            action.choices = names[name]
        elif name in FOLDERS:
            setattr(action, "complete", shtab.DIRECTORY)  # noqa: B010
        elif name in FILES or (name in known and known[name].path):
            setattr(action, "complete", shtab.FILE)  # noqa: B010


def _function_name(setting: str) -> str:
    return f"_stillroom_names_for_{setting}"


def _bash_function(setting: str, names: list[str]) -> str:
    """A function of bash that completes one of some names, or a folder."""
    return f'{_function_name(setting)}() {{ compgen -W \'{" ".join(names)}\' -- "$1"; compgen -d -- "$1"; }}'


@cache
def known_names() -> dict[str, list[str]]:
    """The names that a setting may have beside others, by setting: methods, models, data sets, recipes, loggers."""
    models = _keys("models/zoo.py", "ZOO")
    methods = [*_keys("methods/presets.py", "PRESETS"), *_keys("methods/presets.py", "WRAPPERS")]
    own = sorted(path.stem for path in recipes_folder().glob("*.yaml"))
    *sets, scenes = _first_arguments("data/named_sets.py", "SetDescription")
    return {
        "model": models, "student": models, "teacher": models, "method": methods, "recipe": own,
        "data": [*sets, *_keys("data/fine_grained_sets.py", "FINE_GRAINED"), scenes],
        "log_to": _keys("loggers/logger_names.py", "KNOWN"),
    }  # fmt: skip


def _keys(path: str, table: str) -> list[str]:
    """The keys of a dictionary in a module of ours, which is not imported."""
    for node in _source(path).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id == table and isinstance(value, ast.Dict):
            return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    raise LookupError(f"{path} has no dictionary {table}")


def _first_arguments(path: str, called: str) -> list[str]:
    """The first arguments of all calls of a class in a module of ours, in their order; the module is not imported."""
    calls = [node for node in ast.walk(_source(path)) if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: call.lineno)
    firsts = [call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == called]
    return [first.value for first in firsts if isinstance(first, ast.Constant) and isinstance(first.value, str)]


def _source(path: str) -> ast.Module:
    return ast.parse(files("stillroom").joinpath(path).read_text(encoding="utf-8"))
