"""Two finished tiny students of one teacher, for the tests of probes; tests that change them copy them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from stillroom.engine.run_folder import RunFolder
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.subject import Subject
from stillroom.runtime.device import make_machine
from tests.conftest import tiny_set
from tests.report.conftest import LARGE, SMALL, trained, write_images


@pytest.fixture(scope="session")
def trained_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and two students, ``images`` and ``other`` beside it; nothing may be written there."""
    top = tmp_path_factory.mktemp("probed")
    for name, seed in (("images", 0), ("other", 5)):
        write_images(top / name / "train", tiny_set(8, seed=seed))
        write_images(top / name / "val", tiny_set(7, seed=seed + 1))
    teacher = trained("train", top / "runs", "teacher", model=LARGE, epochs=1)
    for method, name in (("ce", "ce-s0"), ("kd", "kd-s0")):
        trained("distill", top / "runs", name, teacher=str(teacher.path), student=SMALL, method=method, epochs=1)
    return top / "runs"


@pytest.fixture
def runs(trained_runs: Path, tmp_path: Path) -> Path:
    """A copy of the runs, which still name the images and the teacher of the original."""
    return Path(shutil.copytree(trained_runs, tmp_path / "runs"))


def subject_of(runs: Path, name: str = "kd-s0", role: str = "student", **options) -> Subject:
    """A network of one of the runs, on the CPU."""
    chosen = ProbeOptions(batch_size=16, accelerator="cpu", **options)
    return Subject(RunFolder(runs / name), role, chosen, make_machine("cpu", "32"))


@pytest.fixture
def student(trained_runs: Path) -> Subject:
    """The student of KD."""
    return subject_of(trained_runs)
