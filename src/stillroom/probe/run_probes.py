"""Run probes: measure the students of finished runs, and their teachers, and record the numbers in the run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stillroom.data.decoding_workers import naming_workers
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.extras import require
from stillroom.probe.calibration import Calibration
from stillroom.probe.cost import Cost
from stillroom.probe.out_of_distribution import OutOfDistribution
from stillroom.probe.probe_kind import Probe
from stillroom.probe.probe_options import ProbeOptions
from stillroom.probe.robustness import Robustness
from stillroom.probe.subject import Subject
from stillroom.probe.transfer import Transfer
from stillroom.report.aggregate import Comparison, Pair, read_comparison
from stillroom.report.probe_record import ProbeResult, read_probes, write_probe
from stillroom.resolve_model import is_run
from stillroom.runtime.device import Machine, make_machine
from stillroom.trust import NOTHING, Trust

KINDS: dict[str, Probe] = {
    "calibration": Calibration(),
    "cost": Cost(),
    "transfer": Transfer(),
    "robustness": Robustness(),
    "ood": OutOfDistribution(),
}


@naming_workers()
def probe_runs(
    folders: Sequence[Path],
    options: ProbeOptions,
    *,
    trust: Trust = NOTHING,
    say: Callable[[str], object] = lambda _: None,
    note: Callable[[str], object] = lambda _: None,
) -> Comparison:
    """Probe the students of finished runs and their teachers.

    Each result is written as soon as it is known. Numbers that are recorded for the same network, images and settings
    are not computed again, unless ``options.again``.

    Args:
        folders: run folders, and folders that hold run folders.
        options: what is measured, and how.
        trust: what is permitted for the models that the runs name; by default nothing is imported.
        say: told the progress, a line at a time.
        note: told what could not be measured, and why.

    Returns:
        The runs by pair, method and seed. Their results are read by :mod:`stillroom.report.probe_record`.

    Raises:
        InputError: a run is not finished or is of a detector, a set cannot be used, or a setting cannot work; nothing
            was measured.
    """
    require("stillroom probe", "report", ("scipy", "sklearn", "torchmetrics"))
    chosen = {name: KINDS[name] for name in options.chosen}
    for probe in chosen.values():
        probe.check(options)
    comparison = _classifiers(folders, trust)
    machine = make_machine(options.accelerator, "32")
    for pair in comparison.pairs:  # bad sets are refused before the first network is run
        first = Subject(pair.cells[0].run, "student", options, machine)
        for probe in chosen.values():
            list(probe.measurements(first))
    for pair in comparison.pairs:
        for subject in _subjects(pair, options, machine):
            _measure(subject, chosen, say, note)
    return comparison


def _classifiers(folders: Sequence[Path], trust: Trust) -> Comparison:
    """The runs by pair; a run that was named by itself must be finished."""
    for folder in map(Path, folders):
        if is_run(folder) and not RunFolder(folder).finished:
            raise InputError(f"{folder}: this run is not finished; run its command again first")
    comparison = read_comparison(folders, trust=trust)
    for pair in comparison.pairs:
        if not pair.score.per_image:
            raise InputError(f"{pair.cells[0].run.path} is a run of a detector; probes are for classifiers")
    return comparison


def _subjects(pair: Pair, options: ProbeOptions, machine: Machine) -> Iterator[Subject]:
    """The teacher once, then each student."""
    if options.teacher:
        taught = next((cell.run for cell in pair.cells if cell.run.config().get("teacher")), None)
        if taught is not None:
            yield Subject(taught, "teacher", options, machine)
    for cell in pair.cells:
        yield Subject(cell.run, "student", options, machine)


def _measure(
    subject: Subject, probes: dict[str, Probe], say: Callable[[str], object], note: Callable[[str], object]
) -> None:
    """Carry out the probes of one network whose results are not recorded yet."""
    if subject.record is None:
        note(f"{subject.name} is not measured: there is no record of its predictions")
        return
    for name, probe in probes.items():
        if subject.role == "teacher" and probe.students_only:
            continue
        say(f"{name}: {subject.name}")
        try:
            _record(subject, name, probe, say)
        except InputError as error:
            note(f"{name} of {subject.name} is not measured: {error}")


def _record(subject: Subject, name: str, probe: Probe, say: Callable[[str], object]) -> None:
    assert subject.record is not None
    for one in probe.measurements(subject):
        of = {**subject.identity, "version": probe.version, **one.settings}
        known = read_probes(subject.record).get(name, {}).get(one.on)
        if known is not None and known.of == of and not subject.options.again:
            continue
        say(f"{name} on {one.on}: {subject.name}")
        write_probe(subject.record, name, one.on, ProbeResult(of, one.measure()))
