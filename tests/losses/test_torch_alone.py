"""The losses and optimizers need torch and nothing else."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

from stillroom import losses


def test_losses_and_optimizers_run_where_only_torch_and_its_dependencies_can_be_imported() -> None:
    script = Path(__file__).with_name("torch_alone.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == sum(inspect.isclass(getattr(losses, name)) for name in losses.__all__)
