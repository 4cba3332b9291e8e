"""The one loop. Training is distillation without a teacher."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from stillroom.config import Recipe
from stillroom.data import DataSet, MemoryLoader
from stillroom.engine import checkpoint
from stillroom.engine.evaluate import Evaluation, agreement, predict, score
from stillroom.engine.optim import build_optimizer, lr_at
from stillroom.engine.progress import Reporter
from stillroom.engine.runs import RunFolder
from stillroom.engine.stop import StopRequest, listen
from stillroom.errors import Diverged, Stopped
from stillroom.methods import Method
from stillroom.models import load_weights, logits_of, save_weights
from stillroom.models.anatomy import Anatomy
from stillroom.models.watch import Watch
from stillroom.records import Batch, Output


@dataclass(frozen=True)
class Job:
    """Everything one run needs, built and checked.

    Attributes:
        student: the model to train, on the CPU or already on its device.
        teacher: frozen, or None to train on labels only.
        method: the losses.
        data: training and validation pictures with their statistics.
        recipe: the settings.
        run: the folder that records the run.
        fabric: device and precision.
        student_view: what the method reads out of the student beside its logits; None for nothing.
        teacher_view: the same for the teacher.
    """

    student: nn.Module
    teacher: nn.Module | None
    method: Method
    data: DataSet
    recipe: Recipe
    run: RunFolder
    fabric: Fabric
    student_view: Anatomy | None = None
    teacher_view: Anatomy | None = None


@dataclass
class Progress:
    """How far a run has come; all of it is in the checkpoint.

    Attributes:
        epoch: the one being trained, from 1.
        step: steps done in it.
        seconds: training time spent in it.
        losses: (steps, terms) the value of every term at every step of this epoch.
        correct: training pictures named rightly in it.
        seen: training pictures seen in it.
        rows: the numbers of the finished epochs.
    """

    losses: Tensor
    correct: Tensor
    epoch: int = 1
    step: int = 0
    seconds: float = 0.0
    seen: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)

    def best(self) -> dict[str, Any]:
        """The row of the epoch with the highest validation accuracy, the earliest of equals."""
        return max(self.rows, key=lambda row: (row["val_top1"], -row["epoch"]))


class Loop:
    """One run from its start, or its checkpoint, to its end.

    Args:
        job: what to train and how.
        reporter: told about every step and epoch.
    """

    def __init__(self, job: Job, reporter: Reporter) -> None:
        self.job, self.reporter = job, reporter
        self.options = job.recipe.run
        device = job.fabric.device
        layout = torch.channels_last if self.options.channels_last else torch.contiguous_format
        job.student.to(device=device).to(memory_format=layout)
        job.method.to(device)
        if job.teacher is not None:
            job.teacher.to(device=device).to(memory_format=layout).eval()
        trained = [*job.student.parameters(), *job.method.parameters()]
        optimizer = build_optimizer(trained, job.recipe.optim)
        # Compiled or not, job.student stays the user's own module, with its own parameter names.
        runner = cast("nn.Module", torch.compile(job.student)) if self.options.compile else job.student
        self.runner, self.optimizer = job.fabric.setup(runner, optimizer)
        self.student_watch = watch(job.student, job.student_view, job.method, "student")
        self.teacher_watch = watch(job.teacher, job.teacher_view, job.method, "teacher")
        self.train_loader, self.val_loader = make_loaders(
            job.data, job.recipe, job.fabric, strong=job.method.needs_strong
        )
        self.steps = len(self.train_loader)
        self.names = job.method.term_names
        self.progress = Progress(torch.zeros(self.steps, len(self.names), device=device), self._zero())
        self.teacher_logits: Tensor | None = None

    def run(self) -> dict[str, Any]:
        """Train to the last epoch and write the summary.

        Returns:
            The summary, as in ``summary.json``.

        Raises:
            Stopped: if Ctrl-C or SIGTERM asked for it; the state is saved.
            Diverged: if a loss is NaN or infinite.
        """
        if self.job.run.last.exists():
            self._restore()
        teacher = self._score_teacher()
        done = (self.progress.epoch - 1) * self.steps + self.progress.step
        self.reporter.start(self.job.run.path.name, self.options.epochs, self.steps, done)
        try:
            with listen() as stop:
                while self.progress.epoch <= self.options.epochs:
                    self._train_epoch(stop)
                    self._close_epoch()
                    self._stop_if_asked(stop)
        finally:
            self.reporter.close()
            for hooks in (self.student_watch, self.teacher_watch):
                if hooks is not None:
                    hooks.close()  # the models are their owner's again
        return self._finish(teacher)

    def _train_epoch(self, stop: StopRequest) -> None:
        """The hot path: no checks, no waiting for the device beyond what divergence needs."""
        job, now, device = self.job, self.progress, self.job.fabric.device
        check_every = 1 if device.type == "cpu" else 50
        self.runner.train()
        begin = time.perf_counter() - now.seconds
        for batch in self.train_loader.epoch(now.epoch, now.step):
            for group in self.optimizer.param_groups:
                group["lr"] = lr_at(job.recipe.optim, now.epoch, now.step, self.steps, self.options.epochs)
            teacher = self._teach(batch)
            student = answer(self.runner, self.student_watch, batch)
            terms = job.method(student, teacher, batch.labels, now.epoch, batch.ids)
            values = torch.stack(list(terms.values()))
            now.losses[now.step] = values.detach()
            now.step += 1
            if now.step % check_every == 0:
                self._check_losses(now.step - check_every)
            job.fabric.backward(values.sum())
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            now.correct += (student.logits.detach().argmax(1) == batch.labels).sum()
            now.seen += len(batch.labels)
            self.reporter.step(now.epoch, len(batch.labels), self._latest)
            now.seconds = time.perf_counter() - begin
            if stop.signal_number and now.step < self.steps:
                self._stop_if_asked(stop)
        self._check_losses(now.step - now.step % check_every)

    def _teach(self, batch: Batch) -> Output | None:
        if self.job.teacher is None or not self.job.method.needs_teacher_in(self.progress.epoch):
            return None
        with torch.no_grad(), self._autocast():
            return answer(self.job.teacher, self.teacher_watch, batch)

    def _check_losses(self, since: int) -> None:
        """Stop before a bad value reaches a checkpoint."""
        recent = self.progress.losses[since : self.progress.step]
        if bool(recent.isfinite().all()):
            return
        step, term = (int(i) for i in (~recent.isfinite()).nonzero()[0])
        last = self.job.run.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
        raise Diverged(
            f"loss term {self.names[term]!r} became {float(recent[step, term])} in epoch {self.progress.epoch}, "
            f"step {since + step + 1} of {self.steps}; {kept}. Lower lr or that term's weight, or use precision=32"
        )

    def _close_epoch(self) -> None:
        """Measure, record and save."""
        now, run = self.progress, self.job.run
        logits, labels = predict(self.job.student, self.val_loader.epoch(0), self._autocast())
        now.rows.append(self._row(score(logits, labels), logits))
        if now.best() is now.rows[-1]:
            save_weights(self.job.student, run.best)
        run.write_epochs(now.rows)
        self.reporter.epoch(now.rows[-1])
        now.epoch, now.step, now.seconds, now.seen = now.epoch + 1, 0, 0.0, 0
        now.losses.zero_()
        now.correct = self._zero()
        done = now.epoch - 1
        if done % self.options.checkpoint_every == 0 or done == self.options.epochs:
            self._save()

    def _row(self, result: Evaluation, logits: Tensor) -> dict[str, Any]:
        now = self.progress
        means = now.losses[: now.step].mean(0).tolist()
        same = None if self.teacher_logits is None else agreement(logits, self.teacher_logits)
        return {
            "epoch": now.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": sum(means),
            "terms": dict(zip(self.names, means, strict=True)),
            "train_top1": 100 * float(now.correct) / max(now.seen, 1),
            "val_top1": result.top1,
            "val_top5": result.top5,
            "val_loss": result.loss,
            "agreement": same,
            "seconds": now.seconds,
            "images_per_second": now.seen / max(now.seconds, 1e-9),
        }

    def _finish(self, teacher: Evaluation | None) -> dict[str, Any]:
        """Write the student, then the summary, whose presence marks the run as finished."""
        job, rows, best = self.job, self.progress.rows, self.progress.best()
        if self.options.export == "best":
            load_weights(job.student, job.run.best)
        job.student.eval()
        save_weights(job.student, job.run.student, {key: str(v) for key, v in job.run.config().items()})
        summary = {
            "parameters": sum(p.numel() for p in job.student.parameters()),
            "teacher_parameters": None if job.teacher is None else sum(p.numel() for p in job.teacher.parameters()),
            "teacher": None if teacher is None else asdict(teacher),
            "last": rows[-1],
            "best": best,
            "exported": self.options.export,
            "seconds": sum(row["seconds"] for row in rows),
            "device": str(job.fabric.device),
        }
        job.run.write_summary(summary)
        return summary

    def _score_teacher(self) -> Evaluation | None:
        """Measure the teacher once; its answers are what agreement compares with."""
        if self.job.teacher is None:
            return None
        self.teacher_logits, labels = predict(self.job.teacher, self.val_loader.epoch(0), self._autocast())
        result = score(self.teacher_logits, labels)
        chance = 100 / self.teacher_logits.shape[1]
        if result.top1 < 2 * chance:
            self.reporter.say(
                f"warning: the teacher's accuracy is {result.top1:.1f} % (chance is {chance:.1f} %); "
                "check its weights, the order of the classes, and mean/std"
            )
        return result

    def _save(self) -> None:
        now = self.progress
        self._check_losses(0)  # a stop request may come between two checks
        state = {
            "student": self.job.student.state_dict(),
            "method": self.job.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": {name: getattr(now, name) for name in now.__dataclass_fields__},
            "random": checkpoint.random_state(),
        }
        checkpoint.save_state(self.job.run.last, state)

    def _restore(self) -> None:
        state = checkpoint.load_state(self.job.run.last)
        self.job.student.load_state_dict(state["student"])
        self.job.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        self.progress.losses = self.progress.losses.to(self.job.fabric.device)
        self.progress.correct = self.progress.correct.to(self.job.fabric.device)
        checkpoint.restore_random_state(state["random"])

    def _stop_if_asked(self, stop: StopRequest) -> None:
        if stop.signal_number and self.progress.epoch <= self.options.epochs:
            self._save()
            raise Stopped(
                f"stopped in epoch {self.progress.epoch} after step {self.progress.step}; everything is saved in "
                f"{self.job.run.path}. The same command goes on from there",
                stop.signal_number,
            )

    def _latest(self) -> dict[str, float]:
        values = self.progress.losses[self.progress.step - 1].tolist()
        return dict(zip(self.names, values, strict=True))

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.long, device=self.job.fabric.device)

    def _autocast(self) -> AbstractContextManager[None]:
        context: AbstractContextManager[None] = self.job.fabric.autocast()
        return context


def watch(model: nn.Module | None, view: Anatomy | None, method: Method, side: str) -> Watch | None:
    """Hooks for what a method reads out of a model; None for nothing."""
    return None if model is None or view is None else Watch(model, view, method.parts_of(side))


def answer(model: nn.Module, watch: Watch | None, batch: Batch) -> Output:
    """What a model says about a batch, and about its strong view if it has one."""
    logits = logits_of(model(batch.images))
    parts = {} if watch is None else watch.read()
    if batch.strong is not None:
        parts["logits_strong"] = logits_of(model(batch.strong))
        if watch is not None:
            watch.release()
    return Output(logits, parts)


class Place(TypedDict):
    """What both loaders share."""

    device: torch.device
    channels_last: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]


def make_loaders(data: DataSet, recipe: Recipe, fabric: Fabric, *, strong: bool) -> tuple[MemoryLoader, MemoryLoader]:
    """The training loader with augmentation, and a strong view if asked for, and the validation loader without."""
    run = recipe.run
    place: Place = {
        "device": fabric.device, "channels_last": run.channels_last, "mean": data.mean, "std": data.std,
    }  # fmt: skip
    train = MemoryLoader(
        data.train,
        batch_size=run.batch_size,
        augment=data.augment,
        shuffle=True,
        seed=run.seed,
        strong=strong,
        **place,
    )
    val = MemoryLoader(data.val, batch_size=max(run.batch_size, 256), shuffle=False, **place)
    return train, val
