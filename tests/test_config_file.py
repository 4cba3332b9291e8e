from __future__ import annotations

import pytest

from stillroom.cli_parsers import settings_of_command
from stillroom.config_file import Arguments, read_config_file, refuse_fetching, with_files
from stillroom.errors import InputError
from stillroom.trust import UntrustedError


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("just text", "it holds no settings; write them as name: value"),
        ("trust: true", "a file cannot set trust; give --trust on the command line"),
        ("config: other.yaml", "a file cannot set config; put all settings into one file"),
        ("lr: [", "cannot be read"),
        ("lr: 1\nlr: 2", "lr is there twice"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(tmp_path, content, says):
    path = tmp_path / "a.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"a\.yaml") as caught:
        read_config_file(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match=f"{path.name}.*cannot be read"):
            read_config_file(path)


def test_a_typed_setting_is_not_the_files(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: resnet8\npretrained: true\n")
    found = with_files({"model": "timm:resnet18"}, [str(path)], trust=False)
    assert found.values == {"model": "timm:resnet18", "pretrained": True}
    assert found.files == {"pretrained": str(path)}


@pytest.mark.parametrize(
    ("command", "name", "models"),
    [("train", "pretrained", "model"), ("distill", "student_pretrained", "student"),
     ("compare", "teacher_pretrained", "teachers")],
)  # fmt: skip
def test_weights_that_only_a_file_requests_are_not_fetched(command, name, models):
    known = settings_of_command(command)
    asked = Arguments({models: "timm:resnet18", name: True}, files={name: "a.yaml"})
    with pytest.raises(UntrustedError, match=f"a\\.yaml sets {name}: the published weights of timm:resnet18"):
        refuse_fetching(asked, known)
    refuse_fetching(Arguments(asked.values), known)
    refuse_fetching(Arguments({models: "timm:resnet18", name: False}, files={name: "a.yaml"}), known)
