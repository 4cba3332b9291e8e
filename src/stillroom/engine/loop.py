"""The one loop. Training is distillation without a teacher."""

from __future__ import annotations

import signal
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn

from stillroom.engine import checkpoint, together
from stillroom.engine.evaluate import Evaluation, agreement, hardly_learned, predict, score, what_to_try
from stillroom.engine.job import Job
from stillroom.engine.loaders import make_loaders
from stillroom.engine.memory import PeakMemory
from stillroom.engine.opening import opening
from stillroom.engine.optim import build_optimizer, lr_at
from stillroom.engine.progress import Reporter
from stillroom.engine.resume import Progress, restore_progress, save_progress
from stillroom.engine.stop import StopRequest, listen
from stillroom.engine.teaching import Teaching, answer, open_bank, watch
from stillroom.errors import Diverged, Stopped
from stillroom.losses.finite import NotFinite
from stillroom.models import load_weights
from stillroom.models.frozen import frozen
from stillroom.records import Batch, Output


class Loop:
    """One run from its start, or its checkpoint, to its end.

    Args:
        job: what to train and how.
        reporter: told about every step and epoch.
    """

    def __init__(self, job: Job, reporter: Reporter) -> None:
        self.job, self.reporter = job, reporter
        self.options = job.recipe.run
        device = job.machine.device
        self.memory = PeakMemory(device)
        layout = torch.channels_last if self.options.channels_last else torch.contiguous_format
        job.student.to(device=device).to(memory_format=layout)
        job.method.to(device)
        self.many = job.machine.world_size > 1
        if self.many:
            together.copy_from_first([job.student, job.method])
        self.trained = [*job.student.parameters(), *job.method.parameters()]
        self.optimizer = build_optimizer(self.trained, job.recipe.optim, compiled=self.options.compile)
        # Compiled or not, job.student stays the user's own module, with its own parameter names.
        self.runner = cast("nn.Module", torch.compile(job.student)) if self.options.compile else job.student
        self.train_loader, self.val_loader = make_loaders(
            job.data, job.recipe, job.machine, strong=job.method.needs_strong
        )
        self.student_watch = watch(job.student, job.student_view, job.method, "student")
        self.teaching = self._teaching(layout)
        self.steps = len(self.train_loader)
        self.names = job.method.term_names
        self.progress = Progress(torch.zeros(self.steps, len(self.names), device=device), self._zero())
        self.teacher_logits: Tensor | None = None
        self.stop_wish = torch.zeros(())  # above 0 when any process was asked to stop, as of the latest step

    def _teaching(self, layout: torch.memory_format) -> Teaching | None:
        """The teacher in its place, with its bank if there is one."""
        job, sharded = self.job, self.many and self.options.shard_teacher
        if job.teacher is None:
            return None
        job.teacher.eval()
        if sharded:
            together.shard(job.teacher, job.machine)
        else:
            job.teacher.to(device=job.machine.device).to(memory_format=layout)
        bank = open_bank(job.bank_key, self.options, job.machine, (self.train_loader, self.val_loader), self.reporter)
        hooks = watch(job.teacher, job.teacher_view, job.method, "teacher")
        asked = job.teacher
        if hooks is None and not sharded and job.machine.device.type == "cpu":
            asked = frozen(job.teacher, next(self.val_loader.epoch(0)).images[:2])
        return Teaching(asked, hooks, bank, job.machine, sharded=sharded)

    def run(self) -> dict[str, Any]:
        """Train to the last epoch and write the summary.

        Returns:
            The summary, as in ``summary.json``.

        Raises:
            Stopped: if Ctrl-C or SIGTERM asked for it; the state is saved.
            Diverged: if a loss is NaN or infinite.
        """
        if self.many and not self.job.machine.first:
            checkpoint.seed_anew(*self._place(), self.job.machine.rank)  # no two draw the same dropout
        if self.job.run.last.exists():
            self.progress = restore_progress(self.job, self.optimizer, self.reporter)
        if self.many:
            together.agree((self.progress.epoch, self.progress.step), f"the place to go on from in {self.job.run.path}")
        teacher = self._score_teacher()
        done = (self.progress.epoch - 1) * self.steps + self.progress.step
        about = opening(self.job, self.steps, done)
        self.reporter.start(self.job.run.path.name, self.options.epochs, self.steps, done, about)
        try:
            with listen() as stop, self._joined():
                while self.progress.epoch <= self.options.epochs:
                    self._train_epoch(stop)
                    self._close_epoch()
                    self._stop_if_asked(stop)
        finally:
            self.reporter.close()
            for hooks in (self.student_watch, None if self.teaching is None else self.teaching.watch):
                if hooks is not None:
                    hooks.close()  # the models are their owner's again
        return self._finish(teacher)

    def _train_epoch(self, stop: StopRequest) -> None:
        """The hot path: no checks, no waiting for the device beyond what divergence needs."""
        job, now = self.job, self.progress
        check_every = 1 if job.machine.device.type == "cpu" else 50
        share = self.options.batch_size // job.machine.world_size
        self.runner.train()
        begin = time.perf_counter() - now.seconds
        for batch in self.train_loader.epoch(now.epoch, now.step):
            for group in self.optimizer.param_groups:
                group["lr"] = lr_at(job.recipe.optim, now.epoch, now.step, self.steps, self.options.epochs)
            teacher = None
            if self.teaching is not None and job.method.needs_teacher_in(now.epoch):
                filled = self.teaching.filling
                teacher = self.teaching.about(batch, now.epoch, now.step * share)
                now.filling += self.teaching.filling - filled
            with self._autocast():
                student = answer(self.runner, self.student_watch, batch)
            count = self.train_loader.pictures_in(now.step)
            values = self._losses(student, teacher, batch, count)
            values.sum().backward()  # type: ignore[no-untyped-call]
            now.losses[now.step] = self._averaged(values.detach(), stop)
            now.step += 1
            if now.step % check_every == 0:
                self._check_losses(now.step - check_every)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            now.correct += (student.logits.detach().argmax(1) == batch.labels).sum()
            now.seen += count
            self.reporter.step(now.epoch, count, self._latest)
            now.seconds = time.perf_counter() - begin
            if now.step < self.steps and (not self.many or now.step % check_every == 0):
                self._stop_if_asked(stop)
        self._check_losses(now.step - now.step % check_every)

    def _losses(self, student: Output, teacher: Output | None, batch: Batch, count: int) -> Tensor:
        """Every term of this process's share, or of the whole batch where a loss relates samples to each other."""
        method, epoch = self.job.method, self.progress.epoch
        labels, ids = batch.labels, batch.ids
        share = 1.0
        if self.many and method.relates_samples_in(epoch):
            labels, ids = together.gather_labels(batch, count)
            student = together.gather_batch(student, count)
            teacher = None if teacher is None else together.gather_batch(teacher, count)
        elif self.many:
            share = len(labels) * self.job.machine.world_size / count  # the mean of shares' means, made exact
        with checkpoint.drawing_for(self._place()) if method.draws else nullcontext():
            try:
                values = torch.stack(list(method(student, teacher, labels, epoch, ids).values()))
            except NotFinite as error:
                raise self._diverged(str(error).partition(": ")[0], self.progress.step + 1) from error
        return values * share if share != 1.0 else values

    def _averaged(self, values: Tensor, stop: StopRequest) -> Tensor:
        """The loss over all processes; gradients become their mean, and all learn whether one was asked to stop."""
        if not self.many:
            return values
        extra = together.average(self.trained, torch.cat([values, values.new_tensor([stop.signal_number])]))
        self.stop_wish = extra[-1]
        return extra[:-1]

    def _check_losses(self, since: int) -> None:
        """Stop before a bad value reaches a checkpoint."""
        recent = self.progress.losses[since : self.progress.step]
        if bool(recent.isfinite().all()):
            return
        step, term = (int(i) for i in (~recent.isfinite()).nonzero()[0])
        what = f"loss term {self.names[term]!r} became {float(recent[step, term])}"
        raise self._diverged(what, since + step + 1)

    def _diverged(self, what: str, step: int) -> Diverged:
        last = self.job.run.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
        return Diverged(
            f"{what} in epoch {self.progress.epoch}, step {step} of {self.steps}; {kept}. Lower lr or that term's "
            "weight, or use precision=32"
        )

    def _close_epoch(self) -> None:
        """Measure, record and save."""
        now, run = self.progress, self.job.run
        logits, labels = predict(self.job.student, self.val_loader.epoch(0), self._autocast())
        now.rows.append(self._row(logits, labels))
        if self.job.machine.first:
            if now.best() is now.rows[-1]:
                run.write_best(self.job.student)
            run.write_epochs(now.rows)
        self.reporter.epoch(now.rows[-1])
        now.epoch, now.step, now.seconds, now.filling, now.seen = now.epoch + 1, 0, 0.0, 0.0, 0
        now.losses.zero_()
        now.correct = self._zero()
        done = now.epoch - 1
        if done % self.options.checkpoint_every == 0 or done == self.options.epochs:
            self._save()

    def _row(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        now = self.progress
        result, correct = self._overall(score(logits, labels)), now.correct
        means = now.losses[: now.step].mean(0).tolist()
        same = None if self.teacher_logits is None else agreement(logits, self.teacher_logits)
        if self.many:
            correct = together.total(correct)
            same = None if same is None else together.mean_of_shares(same, len(labels))
        return {
            "epoch": now.epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": sum(means),
            "terms": dict(zip(self.names, means, strict=True)),
            "train_top1": 100 * float(correct) / max(now.seen, 1),
            "val_top1": result.top1,
            "val_top5": result.top5,
            "val_loss": result.loss,
            "agreement": same,
            "seconds": now.seconds,
            "bank_seconds": now.filling,
            "images_per_second": now.seen / max(now.seconds, 1e-9),
        }

    def _finish(self, teacher: Evaluation | None) -> dict[str, Any]:
        """Write the student, then the summary, whose presence marks the run as finished."""
        job, rows, best = self.job, self.progress.rows, self.progress.best()
        if self.options.export == "best":
            if self.many:
                together.wait_for_all()  # process 0 may still be writing them
            load_weights(job.student, job.run.best)
        job.student.eval()
        summary = {
            "parameters": sum(p.numel() for p in job.student.parameters()),
            "teacher_parameters": None if job.teacher is None else sum(p.numel() for p in job.teacher.parameters()),
            "teacher": None if teacher is None else asdict(teacher),
            "last": rows[-1],
            "best": best,
            "exported": self.options.export,
            "seconds": sum(row["seconds"] for row in rows),
            "bank_seconds": sum(row.get("bank_seconds", 0.0) for row in rows),
            "peak_memory_bytes": self._peak_memory(),
            "device": str(job.machine.device),
            "processes": job.machine.world_size,
        }
        if job.machine.first:
            job.run.write_student(job.student)
            job.run.write_summary(summary)
        # The one falls behind in a short run, the other where batch norms average over a long one.
        accuracy = max(rows[-1]["train_top1"], rows[-1]["val_top1"])
        if words := hardly_learned(accuracy, len(job.data.train.classes)):
            fix = what_to_try(rows[0]["loss"], rows[-1]["loss"], job.recipe.optim.lr or 0.0)
            self.reporter.say(f"warning: accuracy ended at {words}; {fix}")
        return summary

    def _score_teacher(self) -> Evaluation | None:
        """Measure the teacher once; its answers are what agreement compares with."""
        if self.teaching is None:
            return None
        self.teacher_logits, labels = self.teaching.about_all(self.val_loader)
        result = self._overall(score(self.teacher_logits, labels))
        if words := hardly_learned(result.top1, self.teacher_logits.shape[1]):
            self.reporter.say(
                f"warning: the teacher's accuracy is {words}; check its weights, the order of the classes, and mean/std"
            )
        return result

    def _save(self) -> None:
        self._check_losses(0)  # a stop request may come between two checks
        save_progress(self.job, self.optimizer, self.progress)

    def _overall(self, share: Evaluation) -> Evaluation:
        """The numbers over all processes' validation pictures."""
        if not self.many:
            return share
        counts = together.from_all(share.count)
        means = {f: together.mean_of_shares(getattr(share, f), share.count) for f in ("top1", "top5", "loss")}
        return Evaluation(**means, count=sum(counts))

    def _peak_memory(self) -> int | None:
        """Of the process that took most, since this run was begun or taken up again."""
        peak = self.memory.bytes()
        peaks = together.from_all(peak) if self.many else [peak]
        return None if None in peaks else max(peaks)

    def _joined(self) -> AbstractContextManager[None]:
        """Batch norms over all processes, where there are several."""
        if not self.many:
            return nullcontext()
        return together.batch_norm_over_all([self.job.student, self.job.method])

    def _stop_if_asked(self, stop: StopRequest) -> None:
        asked = float(self.stop_wish) > 0 if self.many else stop.signal_number > 0
        if asked and self.progress.epoch <= self.options.epochs:
            self._save()
            raise Stopped(
                f"stopped in epoch {self.progress.epoch} after step {self.progress.step}; everything is saved in "
                f"{self.job.run.path}. The same command goes on from there",
                stop.signal_number or signal.SIGTERM,
            )

    def _latest(self) -> dict[str, float]:
        values = self.progress.losses[self.progress.step - 1].tolist()
        return dict(zip(self.names, values, strict=True))

    def _place(self) -> tuple[int, int, int]:
        return self.progress.place(self.options.seed)

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.long, device=self.job.machine.device)

    def _autocast(self) -> AbstractContextManager[None]:
        return self.job.machine.autocast()
