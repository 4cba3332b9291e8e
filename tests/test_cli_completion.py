from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from stillroom.cli import COMMANDS, main
from stillroom.cli_completion import completion_script, known_names
from stillroom.cli_plain_parsers import SHELLS
from stillroom.data import describe_sets
from stillroom.loggers.logger_names import KNOWN
from stillroom.methods import PRESETS, WRAPPERS
from stillroom.models import ZOO

TRY = """
source "$1"; shift
COMP_WORDS=(stillroom "$@"); COMP_CWORD=$#; COMPREPLY=()
_shtab_stillroom
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "stillroom.bash"
    path.write_text(completion_script("bash", {name: command.parser for name, command in COMMANDS.items()}))
    return path


def completed(script, *words, folder="."):
    """The suggestions of bash for the last of some words."""
    done = subprocess.run(
        ["bash", "-c", TRY, "bash", str(script), *words], capture_output=True, text=True, check=False, cwd=folder
    )
    assert not done.stderr
    return done.stdout.split()


def test_names_are_those_that_there_are():
    names = known_names()
    assert names["method"] == [*PRESETS, *WRAPPERS]
    assert names["student"] == list(ZOO)
    assert names["data"] == [row.name for row in describe_sets()]
    assert names["log_to"] == list(KNOWN)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")
@pytest.mark.parametrize(
    ("words", "suggestions"),
    [
        (["dist"], ["distill"]),
        (["distill", "--teacher_ch"], ["--teacher_checkpoint"]),
        (["distill", "--precision", "b"], ["bf16"]),
        (["train", "--flip", ""], ["true", "false"]),
        (["train", "--model", "resnet5"], ["resnet56"]),
        (["runs", ""], ["list", "show", "compare", "remove"]),
        (["runs", "list", "--sort", "to"], ["top1"]),
        (["list", "me"], ["methods"]),
        (["distill", "--data", "my"], ["my-photos"]),
        (["runs", "show", "my"], ["my-photos"]),
    ],
)
def test_bash_completes_commands_settings_and_values(script, tmp_path, words, suggestions):
    (tmp_path / "my-photos").mkdir()
    assert completed(script, *words, folder=tmp_path) == suggestions


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_a_script(shell, capsys):
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    for word in ("ldrld", "--dry_run", "glyphs100", "tensorboard"):
        assert word.lstrip("-") in out


def test_the_script_is_written_without_pytorch():
    code = (
        "import sys\nfrom stillroom.cli import main\n"
        "assert main(['completion', 'bash']) == 0\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
