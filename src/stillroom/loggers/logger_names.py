"""Names of loggers: what ``log_to`` may say, checked before training."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

from stillroom.errors import InputError, did_you_mean, first_line
from stillroom.extras import require
from stillroom.imports import import_callable
from stillroom.loggers.logger import Logger
from stillroom.trust import Trust, naming

# Name, also that of the extra -> module in stillroom.loggers, and class.
KNOWN = {
    "tensorboard": ("tensorboard_logger", "TensorBoardLogger"),
    "wandb": ("wandb_logger", "WandbLogger"),
    "mlflow": ("mlflow_logger", "MLflowLogger"),
}
METHODS = ("start", "step", "epoch", "finish", "close")


def make_loggers(names: Sequence[str] | None, trust: Trust) -> dict[str, Logger]:
    """Make the loggers of a run.

    Args:
        names: the setting ``log_to``.
        trust: which names may be imported.

    Returns:
        Name -> logger, not started.

    Raises:
        InputError: as for :func:`check_loggers`; or a class cannot be called without arguments, or its object lacks a
            method.
    """
    check_loggers(names, trust)
    loggers: dict[str, Logger] = {}
    for name in names or ():
        try:
            made: Any = _class_of(name, trust)()
        except Exception as error:
            raise InputError(
                f"log_to={name} cannot be made ({first_line(error)}); it is called without arguments"
            ) from error
        if missing := [method for method in METHODS if not callable(getattr(made, method, None))]:
            raise InputError(
                f"log_to={name} has no method {missing[0]}; make it a subclass of stillroom.loggers.Logger"
            )
        loggers[name] = made
    return loggers


def check_loggers(names: Sequence[str] | None, trust: Trust) -> None:
    """Refuse unknown loggers, and those whose package is missing.

    Args:
        names: the setting ``log_to``.
        trust: which names may be imported.

    Raises:
        InputError: naming the logger and the fix.
    """
    for name in names or ():
        if list(names or ()).count(name) > 1:
            raise InputError(f"log_to={name}: it is given twice")
        if name in KNOWN:
            require(f"log_to={name}", name)
        elif "." not in name:
            close = difflib.get_close_matches(name, KNOWN, n=1)
            listed = f"; give {', '.join(KNOWN)}, or package.module.Class of your own"
            raise InputError(f"log_to={name}: there is no logger of that name{did_you_mean(close, listed)}")
        else:
            _class_of(name, trust)


def _class_of(name: str, trust: Trust) -> Callable[[], object]:
    if name in KNOWN:
        module, found = KNOWN[name]
        made: Callable[[], object] = getattr(importlib.import_module(f"stillroom.loggers.{module}"), found)
        return made
    module, _, path = name.rpartition(".")
    try:
        return import_callable(module, path, trust.of(name))
    except InputError as error:
        raise naming(f"log_to={name}", error) from error
