"""Pages of the repository: their commands can be parsed, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from stillroom.cli import COMMANDS
from stillroom.cli_parsers import parse_arguments
from stillroom.methods import PRESETS, WRAPPERS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += sorted([*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "tutorials").glob("*.md")])


def commands(page: Path) -> list[list[str]]:
    """The arguments of every complete ``stillroom`` command in the page's blocks."""
    blocks = re.findall(r"^```\n(.*?)^```$", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    found = [re.search(r"(?:^|\s)stillroom (\w.*)", line) for line in lines]
    return [
        shlex.split(match[1].partition(" > ")[0], comments=True) for match in found if match and "|" not in match[1]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_can_be_parsed(page, monkeypatch):
    monkeypatch.chdir(ROOT)  # where the recipes lie
    for name, *words in commands(page):
        assert parse_arguments(COMMANDS[name].parser(), name, words) is not None


def test_the_readme_shows_commands():
    assert {command[0] for command in commands(ROOT / "README.md")} >= {"demo", "train", "distill", "compare", "export"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    made = ("reference/",)  # by the site's build
    assert not [s for s in links if "://" not in s and not s.startswith(made) and not (page.parent / s).exists()]


def test_every_method_is_in_the_list_of_methods():
    page = (ROOT / "docs" / "methods" / "index.md").read_text("utf-8")
    assert not [name for name in {*PRESETS, *WRAPPERS} if not re.search(rf"`{name}(\(\.\.\.\))?`", page)]
