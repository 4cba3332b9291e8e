"""The settings of a comparison, read and checked without PyTorch: ``stillroom --help`` must not wait for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from stillroom.config import PER_METHOD, DataOptions, OptimOptions
from stillroom.errors import InputError
from stillroom.report.comparison_file import NamedMethod, named_method
from stillroom.settings import as_kind, described, setting

Names = dict[str, str] | list[str] | str
Methods = dict[str, str | dict[str, Any]] | list[str] | str


@described
@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """The grid of runs, and how they are carried out."""

    teachers: Names = setting(
        "separated by commas: folders of finished runs, or names from `stillroom list models`, which are trained first"
    )
    students: Names = setting(
        "separated by commas, named as for `stillroom distill`; every student learns from every teacher"
    )
    methods: Methods = setting(
        'separated by commas, as for `stillroom distill`: "ce,kd,ldrld(depth=5)". In a file they may have labels, '
        '{deep: "ldrld(depth=9)"}, and settings of the optimizer and the augmentation of their own, '
        "{slow: {method: kd, lr: 0.01}}",
        "ce,kd,dkd,ldrld")  # fmt: skip
    tuned: str | None = setting(
        "folder of `stillroom tune`: the methods are its winners, and those given beside them, which count as untuned; "
        "its teacher, student, folder and settings hold where they are not given", None, path=True)  # fmt: skip
    seeds: int | list[int] | str = setting(
        "number of seeds, counted from 0 (with tuned from 1, as the trials had seed 0), or seeds separated by commas", 3
    )
    reference: str | None = setting(
        "method that the others are compared with. Default: kd, else ce, else the first", None
    )
    teacher_epochs: int | None = setting(
        "epochs of a teacher that is trained first. Default: as many as the students; 0 takes the teacher as it is",
        None, at_least=0)  # fmt: skip
    teacher_checkpoint: str | None = setting(
        "file with the teacher's weights (.safetensors, .pt, .pth); it is not trained then", None, path=True
    )
    teacher_pretrained: bool = setting(
        "use the published weights of timm or torchvision teachers", False, fetches="teachers"
    )
    student_pretrained: bool = setting(
        "start from the published weights of timm or torchvision students", False, fetches="students"
    )
    jobs: int | None = setting(
        "runs at the same time on this machine. Default: one per GPU, or as many as cores and memory allow",
        None, at_least=1)  # fmt: skip
    retries: int = setting("how often to repeat a run that failed for a reason other than its settings", 1, at_least=0)
    ray: str | None = setting(
        "run on a Ray cluster: local starts one here, auto finds a running one, or give an address", None
    )
    page: bool = setting("write the page at the end", True)


def models_of(options: CompareOptions, axis: Literal["teachers", "students"]) -> dict[str, str]:
    """The teachers or the students by label.

    Returns:
        Label -> name of the model; in a plain list each name is its own label.

    Raises:
        InputError: an axis or an entry is empty, or an entry occurs twice.
    """
    models = {label: str(text).strip() for label, text in _labelled(axis, getattr(options, axis)).items()}
    _refuse_duplicates(axis, models, models.values())
    return models


def methods_of(options: CompareOptions) -> dict[str, NamedMethod]:
    """The methods by label.

    Raises:
        InputError: as for :func:`models_of`; or a method has a setting that is not in
            :data:`stillroom.config.PER_METHOD`, or one of a wrong type.
    """
    methods = {}
    for label, content in labelled_methods(options.methods).items():
        try:
            method = named_method(content)
            methods[label] = NamedMethod(method.text, _checked(method.settings))
        except InputError as error:
            raise InputError(f"methods: {label}: {error}") from error
    return methods


def labelled_methods(given: Methods) -> dict[str, Any]:
    """What was given for each method, by label.

    Raises:
        InputError: as for :func:`models_of`.
    """
    return _labelled("methods", given)


def names_of(options: CompareOptions, axes: Collection[str] = ("teachers", "students", "methods")) -> list[str]:
    """Every model and method on the given axes, as the user wrote it."""
    found: list[str] = []
    if "teachers" in axes:
        found += models_of(options, "teachers").values()
    if "students" in axes:
        found += models_of(options, "students").values()
    if "methods" in axes:
        found += [method.text for method in methods_of(options).values()]
    return found


def _labelled(axis: str, given: dict[str, Any] | list[str] | str) -> dict[str, Any]:
    """The entries of one axis of the grid by label."""
    if isinstance(given, dict):
        pairs = [(str(label).strip(), content) for label, content in given.items()]
    else:
        texts = _split(given) if isinstance(given, str) else [str(text).strip() for text in given]
        pairs = [(text, text) for text in texts]
    if not pairs or not all(label and content for label, content in pairs):
        raise InputError(f"{axis}={given!r}: give at least one, separated by commas")
    _refuse_duplicates(axis, given, [label for label, _ in pairs])
    return dict(pairs)


def _refuse_duplicates(axis: str, given: object, names: Iterable[str]) -> None:
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise InputError(f"{axis}={given!r}: {duplicates[0]!r} occurs twice")


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A method's own settings, each of its type."""
    kinds = get_type_hints(DataOptions) | get_type_hints(OptimOptions)
    for name in settings:
        if name not in PER_METHOD:
            raise InputError(f"methods cannot differ in {name!r}; they can in {', '.join(PER_METHOD)}")
    return {name: as_kind(name, v, kinds[name], text=True) for name, v in settings.items() if v is not None}


def seeds_of(options: CompareOptions) -> list[int]:
    """The seeds in increasing order.

    Raises:
        InputError: the value is neither a number of seeds nor a list of seeds.
    """
    given = options.seeds
    try:
        if isinstance(given, str) and "," not in given:
            given = int(given)
        if isinstance(given, int):
            first = 0 if options.tuned is None else 1
            seeds = list(range(first, first + given))
        else:
            seeds = [int(seed) for seed in (_split(given) if isinstance(given, str) else given)]
    except ValueError as error:
        raise InputError(f"seeds={given}: give a number of seeds, or seeds separated by commas") from error
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"seeds={given}: give at least one seed, each once, none below 0")
    return sorted(seeds)


def _split(text: str) -> list[str]:
    """Split at the commas outside parentheses, brackets and quotes."""
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
