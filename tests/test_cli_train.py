from __future__ import annotations

import pytest

from stillroom.cli_train import NAMING, command_trust
from stillroom.config_file import Arguments
from stillroom.trust import UntrustedError


def test_typed_names_are_permitted_and_those_of_a_file_are_not():
    values = {"student": "mine:make", "teacher": "theirs:make", "log_to": ["mine.Log", "wandb"]}
    trust = command_trust("distill", Arguments(values, {"teacher": "recipe.yaml"}), *NAMING["distill"])
    assert trust.of("mine:make").names
    assert trust.of("mine.Log").names
    origin = trust.of("theirs:make")
    assert (origin.names, origin.place) == (False, "recipe.yaml")
    trusted = command_trust("distill", Arguments(values, {"teacher": "recipe.yaml"}, trust=True), *NAMING["distill"])
    assert trusted.of("theirs:make").names


def test_published_weights_that_only_a_file_requests_are_refused():
    asked = Arguments({"model": "timm:resnet18", "pretrained": True}, {"pretrained": "recipe.yaml"})
    with pytest.raises(UntrustedError, match=r"recipe\.yaml sets pretrained"):
        command_trust("train", asked, "model")
