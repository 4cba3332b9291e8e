"""What makes a run this run and no other, beyond its settings: what its models, losses and data compute and hold.

A model or a loss that is given by the name of an installed one is known by its name. One that is handed in as an object
is known by all it holds, and one that is built by the user's own code by that code: their random initial weights follow
from the seed, and may differ in their last bits on another processor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from stillroom.data import DataSet
from stillroom.engine.checkpoint import load_state
from stillroom.engine.resume_check import FORMAT
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.fingerprint import Parts, code_digest, is_users_own, parts_of, tensors_digest
from stillroom.imports import import_callable
from stillroom.methods import Method
from stillroom.models.student_wrapper import unwrapped_state
from stillroom.models.weight_files import read_checkpoint
from stillroom.resolve import fingerprint, is_function, is_run
from stillroom.teachers.logit_fingerprint import Probe
from stillroom.trust import Origin


def contents(data: DataSet) -> dict[str, str]:
    """Fingerprints of images, with their ids and in their order, and of labels; reads everything once."""
    return {
        f"{side} {what}": tensors_digest(*tensors)
        for side, images in (("training", data.train), ("validation", data.val))
        for what, tensors in (("images", (images.images, images.ids)), ("labels", (images.labels,)))
    }


def student_parts(
    given: nn.Module | None, name: str, built: nn.Module, checkpoint: str | None, origin: Origin
) -> Parts:
    """What a run begins from.

    Args:
        given: the module that was handed in, if one was.
        name: of the model otherwise.
        built: the model before anything is trained or added to it.
        checkpoint: the file its weights come from, if there is one.
        origin: where ``name`` comes from.
    """
    if given is not None:
        return parts_of(given, "student")
    found = _built_parts(name, built, origin)
    loaded = {"weights": fingerprint(built)} if checkpoint is not None or is_run(name) else {}
    return Parts({**found.parts, **loaded}, found.opaque)


def _built_parts(name: str, built: nn.Module, origin: Origin) -> Parts:
    """What a name does not say: all that the user's own code makes of a model, but for weights drawn at random."""
    if is_run(name):
        return parts_of(built, "student", values=False)
    if not is_function(name):
        return Parts()
    module, _, path = name.partition(":")
    found = parts_of(built, "student", values=False)
    return Parts({**found.parts, name: code_digest(import_callable(module, path, origin))}, found.opaque)


def teacher_parts(teacher: nn.Module) -> dict[str, str]:
    """What a teacher computes, apart from what it says about a probe. What cannot be compared counts by its type."""
    return parts_of(teacher, "teacher", trained=False).parts


def decides(given: nn.Module | None, name: str, teacher: nn.Module) -> bool:
    """Whether more than its name and its weights decides what a teacher says."""
    return given is not None or is_function(name) or is_users_own(teacher)


def method_parts(method: Method, *, given: bool) -> Parts:
    """What the losses compute, before they are joined to models.

    Args:
        method: its losses without connectors.
        given: whether it was handed in as an object; otherwise its text says all about losses of ours.
    """
    parts: dict[str, str] = {}
    opaque: list[str] = []
    if given:
        whole = parts_of(method, "method", modes=True)
        parts |= {name: value for name, value in whole.parts.items() if name in ("class", "code", "attribute ce")}
    for term in method.terms:
        if given or is_users_own(term.loss):
            found = parts_of(term.loss, f"method.{type(term.loss).__name__}", values=given, modes=True)
            parts |= {f"{term.name}: {name}": value for name, value in found.parts.items()}
            parts |= {f"{term.name}: weight": repr(term.weight), f"{term.name}: warmup": repr(term.warmup)}
            opaque += found.opaque
    return Parts(parts, tuple(opaque))


def identity(
    data: Mapping[str, str], student: Parts, teacher: Mapping[str, str], method: Parts, probe: Probe | None
) -> dict[str, Any]:
    """All of it, in plain values, as ``inputs.json`` keeps it.

    Args:
        data: from :func:`contents`.
        student: from :func:`student_parts`.
        teacher: from :func:`teacher_parts`; nothing where its name and its weights are all there is to it.
        method: from :func:`method_parts`.
        probe: what the teacher says; None without a teacher.
    """
    return {
        "format": FORMAT,
        "data": dict(data),
        "student": student.parts,
        "teacher": dict(teacher),
        "method": method.parts,
        "opaque": [*student.opaque, *method.opaque],
        "probe": probe,
    }


def digest_of(parts: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits for all parts together."""
    return hashlib.sha256(json.dumps(dict(parts), sort_keys=True).encode()).hexdigest()[:16]


def as_left(parts: Parts, student: nn.Module, run: RunFolder) -> Parts:
    """The parts of a module that was handed in; one that a run has trained counts as the one the run began from.

    A module is trained in place. So the same call from Python hands in what the run itself has left behind: then the
    run goes on, or its record is given back.

    Args:
        parts: from :func:`student_parts`.
        student: the module as it was handed in.
        run: the folder that is asked for, which may not be there yet.
    """
    if not is_run(run.path):
        return parts
    config = run.config()
    known = config.get("identity")
    recorded = known.get("student") if isinstance(known, dict) else None
    if not isinstance(recorded, dict) or recorded.get("weights") in (None, parts.parts["weights"]):
        return parts
    try:
        left = read_checkpoint(run.student) if run.finished else load_state(run.last)["student"]
    except (InputError, OSError, KeyError):
        return parts
    left = unwrapped_state(left, config)
    if not left or not _hold(student.state_dict(), left):
        return parts
    return Parts({**parts.parts, "weights": recorded["weights"]}, parts.opaque)


def _hold(state: Mapping[str, Any], left: Mapping[str, Any]) -> bool:
    """Whether a state dict holds these values; of tied weights a file may have only one."""
    return all(name in state and torch.equal(state[name].cpu(), value.cpu()) for name, value in left.items())
