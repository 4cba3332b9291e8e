"""What the argument parser reports, said in the words of the command line."""

from __future__ import annotations

import difflib
import re

from jsonargparse import ArgumentParser

from stillroom.errors import did_you_mean


def plain(message: str, parser: ArgumentParser) -> str:
    """Turn a parser's message into one line that names the argument, its value and what it must be.

    Args:
        message: what the parser said.
        parser: that of the command; its arguments are what may have been meant.
    """
    message = " ".join(message.split())
    wrong = re.fullmatch(r'Parser key "([\w.]+)": Expected an? (.*)\. Got value: (.*)', message)
    if wrong:
        return f"{wrong[1]}={wrong[3]}: must be {_kind(wrong[2])}"
    union = re.fullmatch(
        r'Parser key "([\w.]+)": Does not validate .*? Errors: (.*) Given value type: .*? Given value: (.*)', message
    )
    if union:
        kinds = [_kind(part) for part in re.split(r"(?:^| )- Expected an? ", union[2]) if part]
        return f"{union[1]}={union[3]}: must be {' or '.join(kind for kind in kinds if kind != 'NoneType')}"
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
    unknown = re.fullmatch(r"unrecognized arguments: --(\w+)(.*)", message)
    if unknown:
        return f"there is no argument --{unknown[1]}{_close(unknown[1], parser)}"
    return message


def _kind(text: str) -> str:
    """A type in words: <class 'int'> becomes int, typing.Literal['a', 'b'] becomes 'a' or 'b'."""
    plain = re.sub(r"<class '(\w+)'>", r"\1", text.split(". Got value")[0].strip()).replace("typing.", "")
    choices = re.fullmatch(r"Literal\[(.*)\]", plain)
    return choices[1].replace(", ", " or ") if choices else plain


def _shown(name: str, parser: ArgumentParser) -> str:
    """An argument as the help shows it: --option, or WORD where it has no name on the command line."""
    return f"--{name}" if f"--{name} " in parser.format_help() else name.upper()


def _close(name: str, parser: ArgumentParser) -> str:
    close = difflib.get_close_matches(name, parser.get_defaults().keys(), n=1)
    return did_you_mean([f"--{option}" for option in close], "; --help shows them all")
