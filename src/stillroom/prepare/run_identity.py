"""The identity of a run beyond its settings: fingerprints of its data, models and losses.

An installed model or loss is identified by its name. An object passed from Python is identified by everything it holds.
A model built by the user's own code is identified by that code: its random initial weights follow from the seed, and
their last bits may differ on another processor.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

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
from stillroom.resolve_model import fingerprint, is_function, is_run
from stillroom.teachers.logit_fingerprint import Probe
from stillroom.trust import Origin


def data_fingerprints(data: DataSet) -> dict[str, str]:
    """Fingerprints of the images with their ids, in order, and of the labels of both splits."""
    return {
        f"{side} {what}": digest
        for side, source in (("training", data.train), ("validation", data.val))
        for what, digest in (("images", source.fingerprint), ("labels", tensors_digest(source.labels)))
    }


def student_parts(
    given: nn.Module | None, name: str, built: nn.Module, checkpoint: str | None, origin: Origin
) -> Parts:
    """Fingerprints of the student at the start of a run.

    Args:
        given: the module passed from Python, or None.
        name: of the model otherwise.
        built: the model, untrained and not yet connected to the method.
        checkpoint: the file that its weights come from, or None.
        origin: where ``name`` comes from.
    """
    if given is not None:
        return parts_of(given, "student")
    found = _built_parts(name, built, origin)
    loaded = {"weights": fingerprint(built)} if checkpoint is not None or is_run(name) else {}
    return Parts({**found.parts, **loaded}, found.opaque)


def _built_parts(name: str, built: nn.Module, origin: Origin) -> Parts:
    """Fingerprints of what the user's own code builds, without random weights; nothing for an installed model."""
    if is_run(name):
        return parts_of(built, "student", values=False)
    if not is_function(name):
        return Parts()
    module, _, path = name.partition(":")
    found = parts_of(built, "student", values=False)
    return Parts({**found.parts, name: code_digest(import_callable(module, path, origin))}, found.opaque)


class TorchIdentity(NamedTuple):
    """Fingerprints of a network that teaches.

    Attributes:
        weights: of its parameters and buffers.
        parts: of its code and attributes; an object that cannot be compared counts by its type.
        opaque: where each such object is, and its type.
    """

    weights: str
    parts: dict[str, str]
    opaque: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All of it in one word."""
        return f"{self.weights}-{digest_of(self.parts)}"


def torch_identity(teacher: nn.Module) -> TorchIdentity:
    """Take the fingerprints of a network on the CPU."""
    found = parts_of(teacher, "teacher", trained=False)
    return TorchIdentity(fingerprint(teacher), found.parts, found.opaque)


def has_own_code(given: nn.Module | None, name: str, *networks: nn.Module) -> bool:
    """Whether a teacher was passed as a module or runs user code, so that name and weights do not determine it."""
    return given is not None or is_function(name) or any(map(is_users_own, networks))


def method_parts(method: Method, *, given: bool) -> Parts:
    """Fingerprints of the losses before they are connected to models.

    Args:
        method: its losses without connectors.
        given: whether it was passed as an object; otherwise its text identifies the losses of Stillroom.
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


def run_identity(
    data: Mapping[str, str], student: Parts, teacher: Mapping[str, str], method: Parts, probe: Probe | None
) -> dict[str, Any]:
    """The identity of a run in plain values, as ``inputs.json`` keeps it.

    Args:
        data: from :func:`data_fingerprints`.
        student: from :func:`student_parts`.
        teacher: the teacher's parts; empty where its name and weights identify it.
        method: from :func:`method_parts`.
        probe: the teacher's; None without a teacher.
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


def parts_at_start(parts: Parts, student: nn.Module, run: RunFolder) -> Parts:
    """The parts of a student passed from Python, as they were when its run started.

    A module is trained in place, so a repeated call passes the module that the run itself has trained. If the module
    holds exactly the weights that the run saved, it counts as the one that the run started from.

    Args:
        parts: from :func:`student_parts`.
        student: the module as passed.
        run: the run's folder, which need not exist yet.
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
    """Whether a state dict holds these values; a file may have only one of several tied weights."""
    return all(name in state and torch.equal(state[name].cpu(), value.cpu()) for name, value in left.items())
