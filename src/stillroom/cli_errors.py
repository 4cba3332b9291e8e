"""What the argument parser reports, said in the words of the command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from stillroom.errors import did_you_mean
from stillroom.setting_types import WORDS, in_words


def plain(message: str, parser: ArgumentParser) -> str:
    """Turn a parser's message into one line that names the argument, its value and what it must be.

    Args:
        message: what the parser said.
        parser: that of the command; its arguments are what may have been meant.
    """
    message = " ".join(message.split())
    wrong = re.fullmatch(r'Parser key "([\w.]+)": Expected an? (.*?)\. Got value: (.*)', message)
    if wrong:
        return f"{wrong[1]}={wrong[3]}: give {_kinds(wrong[2])}"
    union = re.fullmatch(
        r'Parser key "([\w.]+)": Does not validate .*? Subtypes: \[(.*)\] Errors: .* Given value: (.*)', message
    )
    if union:
        return f"{union[1]}={union[3]}: give {_kinds(union[2])}"
    file = re.fullmatch(r'Parser key "config": (.*)', message)
    if file:
        return f"config: {file[1]}; give a YAML file that can be read"
    stray = re.fullmatch(r"Subcommand '\w+' does not accept option '(\w+)'", message)
    if stray:
        return f"there is no setting {stray[1]}{_close(stray[1], parser)}"
    missing = re.fullmatch(r"the following arguments are required: (.*)", message)
    if missing:
        names = [_shown(name.rpartition(".")[2], parser) for name in missing[1].split(", ")]
        return f"{', '.join(names)} must be given; --help explains"
    unknown = re.fullmatch(r"unrecognized arguments: --(\w[\w-]*)(.*)", message)
    if unknown:
        return f"there is no argument --{unknown[1]}{_close(unknown[1].replace('-', '_'), parser)}"
    alone = re.fullmatch(r"unrecognized arguments: (.*)", message)
    if alone:
        return f"{alone[1]} belongs to no argument; write --NAME VALUE; --help shows the names"
    valueless = re.fullmatch(r"argument (--\w+): expected .*argument.*", message)
    if valueless:
        return f"{valueless[1]} must be followed by its value; --help explains"
    choice = re.fullmatch(r"argument (\w+): invalid choice: '(.*)' \(choose from (.*)\)", message)
    if choice:
        choices = re.findall(r"[\w-]+", choice[3])
        close = difflib.get_close_matches(choice[2], choices, n=1)
        return f"{choice[1].upper()}={choice[2]}: give {' or '.join(choices)}{did_you_mean(close)}"
    return message


def no_command(given: str, commands: Sequence[str]) -> str:
    """What to say of a command line that begins with none of the commands.

    Args:
        given: its first word; an option or nothing where the command was left out.
        commands: those there are.
    """
    listed = f"; there are {', '.join(commands)}"
    if not given or given.startswith("-"):
        return f"the command is missing{listed}"
    return f"there is no command {given!r}{did_you_mean(difflib.get_close_matches(given, commands, n=1), listed)}"


def _kinds(text: str) -> str:
    """Types in words: <class 'int'> becomes "a whole number", typing.Literal['a', 'b'] becomes "a or b"."""
    named = {kind.__name__: words for kind, words in WORDS.items()}
    lists = {f"list[{kind.__name__}]": in_words(list[kind]) for kind in (int, float)}  # type: ignore[valid-type]
    found = []
    for literal, part in re.findall(r"Literal\[([^\]]*)\]|(\w+(?:\[[^\]]*\])+|(?<=<class ')\w+)", text):
        found.append(literal.replace("'", "").replace(", ", " or ") or {**named, **lists}.get(part, part))
    return " or ".join(words for words in found if words != "NoneType") or text


def _shown(name: str, parser: ArgumentParser) -> str:
    """An argument as the help shows it: --option, or WORD where it has no name on the command line."""
    return f"--{name}" if f"--{name} " in parser.format_help() else name.upper()


def _close(name: str, parser: ArgumentParser) -> str:
    close = difflib.get_close_matches(name, parser.get_defaults().keys(), n=1)
    return did_you_mean([f"--{option}" for option in close], "; --help shows them all")
