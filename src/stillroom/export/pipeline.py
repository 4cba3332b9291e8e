"""The export pipeline: all files are written aside and checked, then put in place."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stillroom.data import DataSet
from stillroom.data.decoding_workers import naming_workers
from stillroom.engine.run_folder import RunFolder
from stillroom.errors import InputError
from stillroom.export.detector_graph import DetectionParity
from stillroom.export.detector_pipeline import make_detector_files
from stillroom.export.export_config import export_config
from stillroom.export.export_folder import install_files, refuse_other_files
from stillroom.export.exported_model import architecture_of
from stillroom.export.form_scores import FormScores, form_scores
from stillroom.export.latency import Timing
from stillroom.export.model_card import Facts, write_card
from stillroom.export.onnx_graph import Parity, check_parity, write_graph
from stillroom.export.onnx_session import INPUT, OUTPUT, require_onnx, session_logits
from stillroom.export.quantise import write_int8
from stillroom.export.source_run import SourceRun, read_source_run
from stillroom.export.speed import Speed, measure_speed
from stillroom.extras import require
from stillroom.files import write_text
from stillroom.models import save_weights
from stillroom.models.onnx_file import open_session
from stillroom.models.predict import predict
from stillroom.prepare.name_checks import check_run
from stillroom.report.statistics import image_difference
from stillroom.report.usable_runs import unmeasured_reason
from stillroom.runtime.environment import environment
from stillroom.tasks.average_precision import AveragePrecision


@dataclass(frozen=True)
class ExportResult:
    """The files of an export, and their measurements.

    Attributes:
        folder: of the export.
        files: all of them.
        scores: "PyTorch", "onnxruntime" and "onnxruntime int8" -> accuracy and more, over all validation images; for a
            detector average precision over the first of them.
        parity: how close the ONNX file is to PyTorch; None without one.
        timings: speed of student and teacher; empty where it was not measured.
    """

    folder: Path
    files: tuple[Path, ...]
    scores: Mapping[str, FormScores] | Mapping[str, AveragePrecision]
    parity: Parity | DetectionParity | None
    timings: tuple[Timing, ...]


@naming_workers()
def export(
    run: RunFolder,
    out: Path | None = None,
    *,
    onnx: bool = True,
    int8: bool = True,
    latency: bool = True,
    student: nn.Module | None = None,
    data: DataSet | None = None,
    trust: bool = False,
    say: Callable[[str], None] = print,
) -> ExportResult:
    """Write a finished run's student as files to deploy: weights, ONNX, int8, speed and a model card.

    All files are written aside and checked before the first is put in place, so a failure leaves nothing behind.

    Args:
        run: a finished run.
        out: the folder, new or of the same student's earlier export; None is ``export`` in the run folder.
        onnx: write ``model.onnx``; needs the extra ``stillroom[export]``.
        int8: write ``model-int8.onnx`` too.
        latency: measure the speed of student and teacher.
        student: a module to load the weights into, for a student that was handed to the run as a module.
        data: the images, where they were handed to the run.
        trust: whether models that the run's files name may be imported or fetched.
        say: told the progress, a line at a time.

    Raises:
        InputError: the run is unfinished or damaged, its student cannot be built again, an optional package is
            missing, the folder holds other files, or a file's logits differ from PyTorch's.
    """
    check_run("", run.path)
    if run.finished and (reason := unmeasured_reason(run.summary())):
        raise InputError(
            f"{run.path}: {reason}. An export states the accuracy of every file; its weights are in {run.student}"
        )
    if trust:
        run = replace(run, trust=replace(run.trust, files=True))
    out = run.path / "export" if out is None else Path(out)
    require("an export", "export", ("jinja2", "torchmetrics"))
    if onnx:
        require_onnx()
    refuse_other_files(out)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory(prefix="stillroom-export-") as aside:
        source = read_source_run(run, student, data)
        refuse_other_files(out, source.weights)
        return _Export(source, Path(aside), out, say).make(onnx=onnx, int8=int8 and onnx, latency=latency)


class _Export:
    """One export in progress.

    Args:
        source: the run.
        made: folder for the new files.
        out: their final folder.
        say: told the progress.
    """

    def __init__(self, source: SourceRun, made: Path, out: Path, say: Callable[[str], None]) -> None:
        self.source, self.made, self.out, self.say = source, made, out, say
        self.student = made / "student"
        self.student.mkdir()
        self.graph, self.int8 = self.student / "model.onnx", self.student / "model-int8.onnx"
        self.scores: dict[str, FormScores] = {}
        self.correct: dict[str, Tensor] = {}
        self.threads = torch.get_num_threads()

    def make(self, *, onnx: bool, int8: bool, latency: bool) -> ExportResult:
        """Write all files, check them, put them in place."""
        if self.source.data.task == "detection":
            return self._make_detector(onnx=onnx, int8=int8, latency=latency)
        home = architecture_of(self.source)
        config = export_config(self.source, home)
        write_text(self.student / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
        header = {"stillroom": json.dumps({key: config[key] for key in ("model", "classes", "mean", "std", "input")})}
        save_weights(self.source.student, self.student / "model.safetensors", header)
        logits, labels = predict(self.source.student, self.source.validation().epoch(0))
        self._score("PyTorch", logits, labels, logits)
        parity = self._write_graph(config, logits, labels) if onnx else None
        calibrated = self._write_int8(logits, labels) if int8 else 0
        speed = self._measure_speed(onnx=onnx, int8=int8) if latency else None
        correct = self.correct
        facts = Facts(
            source=self.source,
            home=home,
            config=config,
            scores=self.scores,
            parity=parity,
            calibrated=calibrated,
            loss_of_int8=image_difference(correct["onnxruntime int8"], correct["onnxruntime"]) if int8 else None,
            speed=speed,
            environment=environment(),
        )
        write_card(self.student, facts)
        return ExportResult(self.out, self._install(), self.scores, parity, speed.timings if speed else ())

    def _make_detector(self, *, onnx: bool, int8: bool, latency: bool) -> ExportResult:
        found = make_detector_files(self.source, self.student, onnx=onnx, int8=int8, latency=latency, say=self.say)
        return ExportResult(self.out, self._install(), found.scores, found.parity, found.timings)

    def _install(self) -> tuple[Path, ...]:
        files = install_files(self.student, self.out)
        for file in files:
            self.say(f"{file.stat().st_size:>12,} bytes  {file}")
        return files

    def _score(self, form: str, logits: Tensor, labels: Tensor, reference: Tensor) -> None:
        self.correct[form] = logits.argmax(1) == labels
        self.scores[form] = form_scores(logits, labels, reference)
        self.say(f"{form}: top-1 {self.scores[form].top1:.2f} % of {len(labels):,} validation images")

    def _write_graph(self, config: dict[str, Any], logits: Tensor, labels: Tensor) -> Parity:
        source = self.source
        facts = {key: config[key] for key in ("model", "classes", "mean", "std", "input")}
        write_graph(source.student, source.images(2), self.graph, facts)
        session = open_session(self.graph, self.threads)
        theirs = session_logits(session, source.validation().epoch(0))
        parity = check_parity(logits, theirs)
        one = session.run([OUTPUT], {INPUT: source.images(1).numpy()})[0]
        check_parity(logits[:1], torch.from_numpy(one))
        self.say(
            f"model.onnx agrees with PyTorch on {parity.images:,} images: logits differ by at most "
            f"{parity.difference:.1e} ({parity.tolerance:.1e} is allowed)"
        )
        self._score("onnxruntime", theirs, labels, logits)
        return parity

    def _write_int8(self, logits: Tensor, labels: Tensor) -> int:
        calibrated = write_int8(self.graph, self.int8, self.source.training().epoch(0))
        session = open_session(self.int8, self.threads)
        theirs = session_logits(session, self.source.validation().epoch(0))
        self._score("onnxruntime int8", theirs, labels, logits)
        return calibrated

    def _measure_speed(self, *, onnx: bool, int8: bool) -> Speed:
        graphs = [path for path, wanted in ((self.graph, onnx), (self.int8, int8)) if wanted]
        speed = measure_speed(self.source, graphs, self.made, self.threads, self.say)
        record = {**speed.machine, "missing": speed.missing, "results": [asdict(row) for row in speed.timings]}
        write_text(self.student / "latency.json", json.dumps(record, indent=2) + "\n")
        return speed
