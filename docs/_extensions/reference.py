"""Write the reference: a page for each package, with a section for each module, and the help of the commands.

Packages and modules are found from the installed package, and the map of the code from the import contract, so that no
list of them is kept by hand. The pages go to ``docs/reference``, which git ignores. A name that a package exports in
``__all__`` is described under the package; every other documented name, under its module.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

    from sphinx.application import Sphinx

TOP = "stillroom"
ROOT = Path(__file__).parents[2]


def write_reference(app: Sphinx) -> None:
    """Write the pages that changed and delete those whose package is gone."""
    os.environ["COLUMNS"] = "105"  # the width of the commands' help
    folder = Path(app.confdir) / "reference"
    folder.mkdir(exist_ok=True)
    modules = _modules()
    exported = {id(getattr(m, name)): m.__name__ for m in modules for name in getattr(m, "__all__", ())}
    pages = {f"{m.__name__}.rst": _page(m, modules, exported) for m in modules if hasattr(m, "__path__")}
    pages["map.rst"] = _map({module.__name__: module for module in modules})
    pages["commands.rst"] = _commands()
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _modules() -> list[ModuleType]:
    """Import the package and every public module in it."""
    top = importlib.import_module(TOP)
    names = [found.name for found in pkgutil.walk_packages(top.__path__, f"{TOP}.") if "._" not in found.name]
    return [top, *map(importlib.import_module, names)]


def _page(package: ModuleType, modules: list[ModuleType], exported: dict[int, str]) -> str:
    name = package.__name__
    inside = [module for module in modules if module.__name__.rpartition(".")[0] == name]
    lines = _section(package, exported, "=")
    for module in inside:
        lines += [] if hasattr(module, "__path__") else _section(module, exported, "-")
    if packages := [module.__name__ for module in inside if hasattr(module, "__path__")]:
        lines += [".. toctree::", "   :hidden:", "", *(f"   {other}" for other in packages)]
    return "\n".join(lines) + "\n"


def _section(module: ModuleType, exported: dict[int, str], rule: str) -> list[str]:
    """Describe a module and the names that belong to it rather than to another page."""
    name = module.__name__
    lines = [name, rule * len(name), "", f".. automodule:: {name}", "   :members:"]
    lines.append(f"   :synopsis: {_first_line(module)}")
    if hasattr(module, "__all__"):
        lines.append("   :imported-members:")
    package, _, stem = name.rpartition(".")
    if package and getattr(sys.modules[package], stem) is not module:  # the package exports a function of that name
        lines.append("   :no-index:")
    if elsewhere := [key for key, value in vars(module).items() if exported.get(id(value), name) != name]:
        lines.append(f"   :exclude-members: {', '.join(elsewhere)}")
    return [*lines, ""]


def _first_line(module: ModuleType) -> str:
    return (inspect.getdoc(module) or "").partition("\n")[0]


def _map(modules: dict[str, ModuleType]) -> str:
    """List every module with the first line of its docstring, by the layers of the import contract."""
    lines = ["Map of the code", "===============", ""]
    lines += ["From the top down. A rule separates two layers; a layer imports only from the layers below it."]
    for layer in _layers():
        lines += ["", "----", ""]
        for top in layer:
            inside = [name for name in modules if name.startswith(f"{top}.")]
            lines += [f"- :mod:`{top}`: {_first_line(modules[top])}", ""]
            lines += [f"  - :mod:`{name}`: {_first_line(modules[name])}" for name in inside]
            lines.append("")
    return "\n".join(lines)


def _commands() -> str:
    """Quote the help of every command."""
    from stillroom.cli import COMMANDS
    from stillroom.cli_completion import parsers_in

    lines = ["Command line", "============", ""]
    for name, command in COMMANDS.items():
        title = f"stillroom {name}"
        lines += [title, "-" * len(title), "", command.summary, "", ".. code-block:: none", ""]
        parser = command.parser()
        parser.prog = title
        for one in (parser, *parsers_in(parser)):
            lines += [f"   {line}" for line in one.format_help().splitlines()]
            lines.append("")
    return "\n".join(lines)


def _layers() -> list[list[str]]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in layers]


def _skip(_app: Sphinx, _what: str, name: str, value: object, _default: bool, _options: object) -> bool | None:
    """Leave out what says nothing: a module's text form, and the fields of a named tuple, which its class describes."""
    return True if name == "extra_repr" or str(value.__doc__).startswith("Alias for field number") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before Sphinx looks for them."""
    app.connect("builder-inited", write_reference)
    app.connect("autodoc-skip-member", _skip)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
