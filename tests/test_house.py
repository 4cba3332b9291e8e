"""Rules of the house that a machine can check: tests beside modules, names that mean one thing, sizes, words."""

import ast
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
SOURCE, TESTS = TOP / "src" / "stillroom", TOP / "tests"

FILE_LINES, BODY_LINES = 300, 40

# Two modules of one stem, and why.
SAME_STEM: dict[str, str] = {
    "crd": "the loss, and its kernel",
    "ldrld": "the loss, and its kernel",
}
# Two public functions or classes of one name, and why.
SAME_NAME: dict[str, str] = {
    "BasicBlock": "the block of two ResNet families, with the parameter names of each one's checkpoints",
}
# A phrase that the field does not use, and what it says.
WORDS = {
    r"\bpictures?\b": "image",
    r"\b(gone|went|goes) astray\b": "diverged",
    r"\bput up with\b": "tolerate",
    r"\bno ordinary file\b": "not a regular file",
    r"\bno UTF-8\b": "not UTF-8",
}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package by its path below it."""
    files = sorted(path for path in SOURCE.rglob("*.py") if path.name != "__init__.py")
    return {path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def test_every_module_has_a_test_file_of_its_name() -> None:
    bare = {name for name in modules() if not (TESTS / name).with_name(f"test_{Path(name).name}").is_file()}
    assert sorted(bare) == []


def test_a_stem_stands_for_one_module() -> None:
    stems = Counter(Path(name).stem for name in modules())
    same = {stem for stem, count in stems.items() if count > 1}
    assert sorted(same) == sorted(SAME_STEM)


def test_a_public_name_stands_for_one_function_or_class() -> None:
    places = defaultdict(set)
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].add(module)
    same = {name for name, found in places.items() if len(found) > 1}
    assert sorted(same) == sorted(SAME_NAME)


def test_files_are_short() -> None:
    long = {name for name in modules() if (SOURCE / name).read_text(encoding="utf-8").count("\n") > FILE_LINES}
    assert sorted(long) == []


def body_lines(function: ast.FunctionDef) -> int:
    """The lines of a function below its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_functions_are_short() -> None:
    long = {
        f"{module}:{node.name}"
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and body_lines(node) > BODY_LINES
    }
    assert sorted(long) == []


def texts() -> list[Path]:
    """Code, pages and documentation, without the log of experiments."""
    found = [TOP / "README.md", TOP / "CONTRIBUTING.md"]
    for folder, kinds in ((SOURCE, ("*.py", "*.html", "*.js", "*.css", "*.md")), (TOP / "docs", ("*.md", "*.rst"))):
        found += [path for kind in kinds for path in folder.rglob(kind)]
    return [path for path in found if path.name != "LOG.md" and "_build" not in path.parts]


@pytest.mark.parametrize("word", WORDS)
def test_the_fields_own_words_are_used(word: str) -> None:
    pattern = re.compile(word, re.IGNORECASE)
    found = set()
    for path in texts():
        text = path.read_text(encoding="utf-8")
        found |= {
            f"{path.relative_to(TOP).as_posix()}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}"
            for hit in pattern.finditer(text)
        }
    assert sorted(found) == [], f"say {WORDS[word]}"
