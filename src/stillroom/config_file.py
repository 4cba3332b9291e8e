"""The file behind ``--config``: read by the one door, and remembered, so that what it says is not taken for typed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

from stillroom.errors import InputError, first_line
from stillroom.files import shown
from stillroom.reading import read_yaml
from stillroom.trust import UntrustedError

_said: ContextVar[dict[str, str] | None] = ContextVar("said", default=None)
TYPED_ONLY = {"trust": "give --trust on the command line", "config": "put all settings into one file"}
# What asks for published weights, and the setting of the models that these belong to.
FETCHING = {"pretrained": ("model",), "teacher_pretrained": ("teacher", "teachers"),
            "student_pretrained": ("student", "students")}  # fmt: skip


class ConfigFile(ActionConfigFile):
    """``--config FILE``; text in the place of a file is the user's own."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Look at the file before the parser does."""
        path = Path(str(values))
        if path.exists():
            self._note(path)
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]

    def _note(self, path: Path) -> None:
        try:
            content = read_yaml(path)
        except OSError as error:
            raise InputError(f"{path} cannot be read ({first_line(error)})") from error
        if not isinstance(content, dict):
            raise InputError(f"config={path}: it holds no settings; write them as name: value, one a line")
        for name, fix in TYPED_ONLY.items():
            if name in content:
                raise InputError(f"config={path}: a file cannot set {name}; {fix}")
        said = _said.get()
        if said is not None:
            said.update({str(name): str(path) for name in content})


@contextmanager
def settings_noted() -> Iterator[dict[str, str]]:
    """Collect which settings come from which file while a command line is parsed."""
    said: dict[str, str] = {}
    token = _said.set(said)
    try:
        yield said
    finally:
        _said.reset(token)


def files_first(arguments: Sequence[str]) -> list[str]:
    """A command line with its ``--config`` files behind the command, so that flags win over them in any order."""
    if not arguments:
        return []
    files: list[str] = []
    others: list[str] = []
    waiting = iter(arguments[1:])
    for word in waiting:
        if word == "--config":
            files += [word, *([value] if (value := next(waiting, None)) is not None else [])]
        elif word.startswith("--config="):
            files.append(word)
        else:
            others.append(word)
    return [arguments[0], *files, *others]


def typed(arguments: Sequence[str]) -> set[str]:
    """The settings that a command line gives with flags; of abbreviations and parts of a setting it knows nothing."""
    return {word[2:].partition("=")[0] for word in arguments if word.startswith("--")}


def refuse_fetching(settings: Mapping[str, Any], said: Mapping[str, str]) -> None:
    """Refuse published weights that only a file asks for: they would be fetched.

    Args:
        settings: all of a command.
        said: those that only a file gives, with the file.

    Raises:
        UntrustedError: with what would be fetched.
    """
    for name, roles in FETCHING.items():
        if name in said and settings.get(name):
            models = next((settings[role] for role in roles if settings.get(role)), "")
            models = models.values() if isinstance(models, Mapping) else models
            named = models if isinstance(models, str) else ", ".join(map(str, models))
            raise UntrustedError(
                f"{shown(said[name])} sets {name}: the published weights of {shown(named)} would be fetched. Nothing "
                f"was fetched; give --{name} true on the command line, or --trust, if you want that"
            )
