import subprocess
import sys
from dataclasses import fields

import pytest

from stillroom.data_options import DataOptions
from stillroom.optim_options import OptimOptions
from stillroom.run_options import RunOptions
from stillroom.setting_groups import DistillModels, LaunchOptions, TrainModel

GROUPS = (TrainModel, DistillModels, DataOptions, OptimOptions, RunOptions, LaunchOptions)


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_says_what_it_means(group) -> None:
    assert all(field.metadata["setting"].help for field in fields(group))
    assert all(field.name in group.__doc__ for field in fields(group))


def test_no_two_groups_of_a_run_share_a_setting() -> None:
    for models in (TrainModel, DistillModels):
        names = [field.name for group in (models, *GROUPS[2:]) for field in fields(group)]
        assert len(names) == len(set(names))


def test_the_settings_load_without_torch() -> None:
    code = "import stillroom.setting_groups, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
