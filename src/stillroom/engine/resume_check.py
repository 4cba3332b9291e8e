"""Resume check: a run folder must hold the requested run, with the same settings and inputs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stillroom.config import DEFAULTS, MAY_CHANGE, PATHS
from stillroom.data.augment import Augment
from stillroom.errors import InputError
from stillroom.teachers.logit_fingerprint import difference

FORMAT = 1  # of a run's recorded identity; raised when more is compared
SHOWN = 3  # differences in one message
MADE_ANEW = "a module changes as it is used: build it anew, as it was when this run began"
CHANGED_IN_USE = tuple(
    f"{role}: {part}" for role in ("student", "teacher") for part in ("weights", "unsaved", "attribute", "layers")
)
# What a run did that does not record a setting, because the setting is newer: its default as a run resolves it.
UNRECORDED = DEFAULTS | asdict(Augment()) | {"source": "memory", "task": "classification"}


def refuse_other(path: Path, there: Mapping[str, Any], now: Mapping[str, Any], *, first: bool) -> None:
    """Refuse to continue a run folder, or to return its record, unless it holds the same run.

    Args:
        path: the folder.
        there: the settings and inputs recorded in it.
        now: those of the requested run; under "identity" the fingerprints of its inputs.
        first: whether this is the process that writes the folder. The other processes compare settings and data only,
            because they receive the models from the first.

    Raises:
        InputError: naming what differs or cannot be compared, and what to do.
    """
    known, wanted = there.get("identity"), now.get("identity")
    if wanted and (not isinstance(known, dict) or known.get("format") != wanted["format"]):
        raise InputError(
            f"run folder {path} was made by another version of Stillroom, which recorded too little to tell whether "
            "it is the same run; nothing is overwritten: give another name="
        )
    changed = differing(there, now)
    if known and wanted:
        groups = ("data", "student", "teacher", "method") if first else ("data",)
        changed += _by_fingerprint(known, wanted, groups)
    if changed:
        hint = f" ({MADE_ANEW})" if any(line.startswith(CHANGED_IN_USE) for line in changed) else ""
        raise InputError(
            f"run folder {path} holds a run with other settings ({'; '.join(changed[:SHOWN])}){hint}; "
            "nothing is overwritten: give another name=, or the same settings to go on with it, or remove it with "
            "`stillroom runs remove`"
        )
    if not known or not wanted or not first:
        return
    if wanted.get("probe") and (words := difference(known.get("probe"), wanted["probe"])):
        raise InputError(
            f"run folder {path} was made with another teacher ({words}); nothing is overwritten: give another name=, "
            "or the teacher it was begun with"
        )
    if unknown := [*(known.get("opaque") or []), *(wanted.get("opaque") or [])]:
        raise InputError(
            f"run folder {path} cannot be compared with this run: {unknown[0]} has contents that cannot be read; give "
            "another name=, or make it comparable: store numbers, text, tensors or a path instead, or give its class a "
            "__reduce__ method"
        )


def _by_fingerprint(there: Mapping[str, Any], now: Mapping[str, Any], groups: tuple[str, ...]) -> list[str]:
    changed = []
    for group in groups:
        recorded, requested = (found if isinstance(found, dict) else {} for found in (there.get(group), now.get(group)))
        changed += [
            f"{group}: {part} {recorded.get(part)!r} there, {requested.get(part)!r} now"
            for part in {**recorded, **requested}
            if recorded.get(part) != requested.get(part)
        ]
    return changed


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings in which two runs differ, each with both values.

    A setting that one of them does not record is newer than that run, which did as :data:`UNRECORDED` says.

    Args:
        there: the configuration of a run.
        here: the configuration of the other run.
    """
    weights = there.get("teacher_weights")
    known = weights is not None and weights == here.get("teacher_weights")
    ignored = MAY_CHANGE | {"device", "identity"}  # a note names a change of device
    if all(each.get("teacher_bank", "") is None for each in (there, here)):
        ignored |= {"bank_bits"}  # neither run uses a bank
    ignored |= {"data", "root"} if contents_of(there) and contents_of(here) else set()  # fingerprints decide
    pairs = {key: tuple(each.get(key, UNRECORDED.get(key)) for each in (there, here)) for key in {**there, **here}}
    return [
        f"{key} {one!r} there, {other!r} now"
        for key, (one, other) in pairs.items()
        if key not in ignored
        and not same_setting(key, one, other)
        and not (known and _leads_to_weights(key, one, other))
    ]


def contents_of(config: Mapping[str, Any]) -> dict[str, str] | None:
    """The fingerprints of a run's images and labels, by split; None where they were not recorded."""
    identity = config.get("identity")
    found = identity.get("data") if isinstance(identity, dict) else None
    return found if isinstance(found, dict) else None


def same_setting(key: str, one: object, other: object) -> bool:
    """Whether two values of a setting are equal, or are paths of the same file or folder."""
    if one == other:
        return True
    if key not in PATHS or one is None or other is None:
        return False
    with suppress(OSError, ValueError):
        return Path(str(one)).samefile(str(other))
    return False


def _leads_to_weights(key: str, *values: object) -> bool:
    """Whether a teacher's values are paths, which change when the teacher is moved."""
    folders = all(os.sep in str(value) and ":" not in str(value) for value in values)
    return (key == "teacher" and folders) or (key == "teacher_checkpoint" and None not in values)
