"""``stillroom train`` and ``stillroom distill``: a run, or its dry run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import Literal

from stillroom.cli_output import print_rich
from stillroom.cli_parsers import settings_of_command
from stillroom.config import make_recipe
from stillroom.config_file import Arguments, refuse_fetching
from stillroom.trust import Trust, given

NAMING = {"train": ("model", "log_to"), "distill": ("teacher", "student", "method", "log_to")}


def train_command(command: Literal["train", "distill"], arguments: Arguments) -> int:
    """Train, or print what would happen.

    Returns:
        The exit status, 0.
    """
    trust = command_trust(command, arguments, *NAMING[command])
    recipe = make_recipe(command, arguments.values)
    from stillroom.runtime.reporters import make_reporter

    if arguments.dry_run:
        from stillroom.dry_run import dry_run

        for subject, words in dry_run(recipe, make_reporter(), trust):
            print_rich(f"{subject:<12}{words}")
        return 0
    from stillroom.api import run_recipe
    from stillroom.prepare.python_inputs import Inputs
    from stillroom.report.runs_table import summary_table

    result = run_recipe(recipe, make_reporter(), Inputs(trust=trust))
    if os.environ.get("RANK", "0") == "0":  # one process of torchrun speaks for all
        print_rich(summary_table([result.record]))
        print(f"{result.record.student}")
    return 0


def command_trust(command: str, arguments: Arguments, *settings: str) -> Trust:
    """Permit the names on the command line; those in a file need ``--trust``.

    Args:
        command: such as "train".
        arguments: its settings.
        settings: those that name models, methods and loggers.

    Raises:
        UntrustedError: a file requests published weights.
    """
    if not arguments.trust:
        refuse_fetching(arguments, settings_of_command(command))
    own = [arguments.values.get(name) for name in settings if name not in arguments.files]
    return given(
        own,
        files=arguments.trust,
        source=next((arguments.files[name] for name in settings if name in arguments.files), ""),
    )


def grid_trust(command: str, arguments: Arguments, axes: Iterable[str], names: Iterable[str]) -> Trust:
    """As :func:`command_trust` for a comparison or a tuning, whose axes hold several names each.

    Args:
        command: such as "compare".
        arguments: its settings.
        axes: the settings that name models and methods.
        names: the models and methods of the axes that were typed.

    Raises:
        UntrustedError: a file requests published weights.
    """
    trust = command_trust(command, arguments, *axes, "log_to")
    loggers = [] if "log_to" in arguments.files else arguments.values.get("log_to") or []
    return dataclasses.replace(trust, own=frozenset([*names, *loggers]))
