"""What a comparison is asked for, read and checked without PyTorch: ``stillroom --help`` has to answer at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.errors import InputError

Names = dict[str, str] | list[str] | str


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The grid, and how it is worked through.

    Attributes:
        teachers: separated by commas: finished run folders, or names from ``stillroom list models``, which are trained
            first.
        students: separated by commas, as for ``stillroom distill``; every one learns from every teacher.
        methods: separated by commas, as for ``stillroom distill``, for example "ce,kd,ldrld(depth=5)". In a file they
            may have names of their own: {deep: "ldrld(depth=9)"}.
        seeds: a number of seeds, counted from 0, or seeds separated by commas.
        reference: the method the others are compared with; default kd, else ce, else the first.
        teacher_epochs: how long a teacher given by a name is trained; default as long as the students, 0 takes it as
            it is.
        teacher_checkpoint: file with the teacher's weights (.safetensors, .pt, .pth); it is not trained then.
        teacher_pretrained: use the published weights of timm or torchvision teachers.
        student_pretrained: start from the published weights of timm or torchvision students.
        jobs: runs at the same time on this machine; default one a GPU, or as many as cores and memory allow.
        retries: how often a run is tried again that failed for no fault of its settings.
        ray: work on a Ray cluster: local starts one here, auto finds a running one, or give an address.
        page: write the page when all is done.
    """

    teachers: Names
    students: Names
    methods: Names = "ce,kd,dkd,ldrld"
    seeds: int | list[int] | str = 3
    reference: str | None = None
    teacher_epochs: int | None = None
    teacher_checkpoint: str | None = None
    teacher_pretrained: bool = False
    student_pretrained: bool = False
    jobs: int | None = None
    retries: int = 1
    ray: str | None = None
    page: bool = True


Axis = Literal["teachers", "students", "methods"]


def labelled(options: CompareOptions, axis: Axis) -> dict[str, str]:
    """What stands on one axis of the grid, by the name it goes by.

    Args:
        options: the comparison.
        axis: which of its settings.

    Returns:
        Label -> text; a plain list labels each text with itself.

    Raises:
        InputError: for an empty axis, an empty entry, or one that is there twice.
    """
    given = getattr(options, axis)
    if isinstance(given, dict):
        pairs = [(str(label).strip(), str(text).strip()) for label, text in given.items()]
    else:
        texts = _split(given) if isinstance(given, str) else [str(text).strip() for text in given]
        pairs = [(text, text) for text in texts]
    if not pairs or not all(label and text for label, text in pairs):
        raise InputError(f"{axis}={given!r}: give at least one, separated by commas")
    doubled = [label for place, (label, _) in enumerate(pairs) if label in [other for other, _ in pairs[:place]]]
    if doubled:
        raise InputError(f"{axis}={given!r}: {doubled[0]!r} is there twice")
    return dict(pairs)


def seeds_of(options: CompareOptions) -> list[int]:
    """The seeds in increasing order.

    Raises:
        InputError: for anything that is neither a number of seeds nor a list of them.
    """
    given = options.seeds
    try:
        if isinstance(given, str) and "," not in given:
            given = int(given)
        if isinstance(given, int):
            seeds = list(range(given))
        else:
            seeds = [int(seed) for seed in (_split(given) if isinstance(given, str) else given)]
    except ValueError as error:
        raise InputError(f"seeds={given}: give a number of seeds, or seeds separated by commas") from error
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds={given}: give at least one seed, each once, none below 0")
    return sorted(seeds)


def _split(text: str) -> list[str]:
    """Cut at the commas that stand outside parentheses, brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]
