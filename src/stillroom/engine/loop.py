"""The one loop. Training is distillation without a teacher."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.engine import best_weights, checkpoint
from stillroom.engine.divergence import Health
from stillroom.engine.evaluate import Evaluation, agreement, hardly_learned, over_all_processes, score
from stillroom.engine.finish import finish
from stillroom.engine.loaders import make_loaders
from stillroom.engine.optimizer import build_optimizer, lr_at
from stillroom.engine.polling import Looks
from stillroom.engine.run_banner import opening
from stillroom.engine.training_job import Job
from stillroom.engine.training_state import Progress, restore_progress, save_progress
from stillroom.engine.unsaved_state import Unsaved
from stillroom.errors import Diverged, Stopped
from stillroom.losses.finite import NotFinite
from stillroom.models.predict import predict, predict_batch
from stillroom.runtime import distributed
from stillroom.runtime.global_batch_norm import SharedNorms
from stillroom.runtime.peak_memory import PeakMemory, naming_memory
from stillroom.runtime.reporters import Reporter
from stillroom.runtime.signals import StopRequest, listen
from stillroom.teachers.torch_teacher import Teaching, open_bank, place_teacher, watch


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
            distributed.copy_from_first([job.student, job.method])
        self.norms = SharedNorms([job.student, job.method] if self.many else [])
        self.trained = [*job.student.parameters(), *job.method.parameters()]
        self.optimizer = build_optimizer(self.trained, job.recipe.optim, compiled=self.options.compile)
        # Compiled or not, job.student stays the user's own module, with its own parameter names.
        self.runner = cast("nn.Module", torch.compile(job.student)) if self.options.compile else job.student
        self.train_loader, self.val_loader = make_loaders(
            job.data, job.recipe, job.machine, strong=job.method.needs_strong
        )
        self.student_watch = watch(job.student, job.student_view, job.method, "student")
        self.teaching = self._place_teacher(layout)
        self.steps = len(self.train_loader)
        self.names = job.method.term_names
        self.progress = Progress(torch.zeros(self.steps, len(self.names), device=device), self._zero())
        self.teacher_logits: Tensor | None = None
        self.health = Health(job.student, job.method, self.optimizer)
        self.looks = Looks(every_step=device.type == "cpu")
        self.unsaved: Unsaved | None = Unsaved(job.method)
        self.told = torch.zeros(2)  # by all processes: how many are asked to stop, and how long a step takes

    def _place_teacher(self, layout: torch.memory_format) -> Teaching | None:
        job = self.job
        if job.teacher is None:
            return None
        loaders = (self.train_loader, self.val_loader)
        bank = open_bank(job.bank_key, self.options, job.machine, loaders, self.reporter)
        hooks = watch(job.teacher, job.teacher_view, job.method, "teacher")
        sharded = self.many and self.options.shard_teacher
        return place_teacher(job.teacher, hooks, bank, job.machine, self.val_loader, layout=layout, sharded=sharded)

    def run(self) -> dict[str, Any]:
        """Train to the last epoch and write the summary.

        Returns:
            The summary, as in ``summary.json``.

        Raises:
            Stopped: if Ctrl-C, SIGTERM or SIGHUP asked for it; the state is saved.
            Diverged: if a loss, a weight or the optimizer's state is NaN or infinite.
            InputError: if the device has too little memory, or a file cannot be written.
        """
        if self.many and not self.job.machine.first:
            checkpoint.seed_anew(*self._place(), self.job.machine.rank)  # no two draw the same dropout
        if self.job.run.last.exists():
            self.progress = restore_progress(self.job, self.optimizer, self.reporter)
        if self.many:
            distributed.agree(
                (self.progress.epoch, self.progress.step), f"the place to go on from in {self.job.run.path}"
            )
        teacher = self._score_teacher()
        done = (self.progress.epoch - 1) * self.steps + self.progress.step
        about = opening(self.job, self.steps, done)
        self.reporter.start(self.job.run.path.name, self.options.epochs, self.steps, done, about)
        try:
            with listen() as stop, self.norms.joined(), naming_memory(self.job.machine.device, self.options.batch_size):
                while self.progress.epoch <= self.options.epochs:
                    self._train_epoch(stop)
                    self._close_epoch(stop)
                    self._stop_if(self._somebody_asked(stop), stop)
        finally:
            self.reporter.close()
            for hooks in (self.student_watch, None if self.teaching is None else self.teaching.watch):
                if hooks is not None:
                    hooks.close()  # the models are their owner's again
        return finish(self.job, self.progress, teacher, self.memory, self.reporter)

    def _train_epoch(self, stop: StopRequest) -> None:
        """The hot path: no checks, no waiting for the device beyond a look about once a second."""
        job, now, loader = self.job, self.progress, self.train_loader
        looked = now.step
        self.looks.rest()
        self.runner.train()
        begin = time.perf_counter() - now.seconds
        for batch in loader.epoch(now.epoch, now.step):
            for group in self.optimizer.param_groups:
                group["lr"] = lr_at(job.recipe.optim, now.epoch, now.step, self.steps, self.options.epochs)
            self.norms.stand_in = batch.stand_in
            teacher = None
            if self.teaching is not None and job.method.needs_teacher_in(now.epoch):
                filled = self.teaching.filling
                teacher = self.teaching.about(batch, now.epoch, loader.own_before(now.step))
                now.filling += self.teaching.filling - filled
            with self._autocast():
                student = predict_batch(self.runner, self.student_watch, batch)
            count = loader.images_in(now.step)
            values = self._losses(student, teacher, batch, count)
            values.sum().backward()  # type: ignore[no-untyped-call]
            now.losses[now.step] = self._averaged(values.detach(), stop)
            now.step += 1
            asked = False
            if self.looks.due():
                asked, looked = self._look(looked), now.step
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            if not batch.stand_in:
                now.correct += (student.logits.detach().argmax(1) == batch.labels).sum()
            now.seen += count
            self.reporter.step(now.epoch, count, self._latest)
            now.seconds = time.perf_counter() - begin
            if now.step < self.steps:
                self._stop_if(asked if self.many else stop.signal_number > 0, stop)
        self._check_losses(looked)

    def _losses(self, student: Output, teacher: Output | None, batch: Batch, count: int) -> Tensor:
        """Every term of this process's part, or of the whole batch where a loss relates samples to each other."""
        method, epoch = self.job.method, self.progress.epoch
        labels, ids = batch.labels, batch.ids
        whole = self.many and method.relates_samples_in(epoch)
        share = 1.0
        if whole:
            first = self.train_loader.first_owner(self.progress.step)
            labels, ids = distributed.gather_labels(batch, count, first)
            student = distributed.gather_batch(student, count, first)
            teacher = None if teacher is None else distributed.gather_batch(teacher, count, first)
        elif self.many:
            own = 0 if batch.stand_in else len(labels)
            share = own * self.job.machine.world_size / count  # the mean of the parts' means, made exact
        drawing = checkpoint.drawing_for(self._place()) if method.draws else nullcontext()
        with drawing, self.norms.on_whole_batch() if whole else nullcontext():
            try:
                values = torch.stack(list(method(student, teacher, labels, epoch, ids).values()))
            except NotFinite as error:
                raise self._diverged(str(error).partition(": ")[0], self.progress.step + 1) from error
        return values * share if share != 1.0 else values

    def _averaged(self, values: Tensor, stop: StopRequest) -> Tensor:
        """The loss over all processes; gradients become their mean, and all learn what they have to agree on."""
        if not self.many:
            return values
        wish, pace = float(stop.signal_number > 0), self.looks.pace if self.job.machine.first else 0.0
        extra = distributed.average(self.trained, torch.cat([values.float(), values.new_tensor([wish, pace])]))
        self.told = extra[-2:]
        return extra[:-2]

    def _look(self, since: int) -> bool:
        """Stop for a bad loss since a step; else return whether the processes agree that one was asked to stop."""
        self._check_losses(since)
        if not self.many:
            self.looks.looked(self.looks.pace)
            return False
        wish, pace = self.told.tolist()
        self.looks.looked(pace * self.job.machine.world_size)  # only the first process named one
        return bool(wish > 0)

    def _check_losses(self, since: int) -> None:
        """Stop before a bad value reaches a checkpoint."""
        recent = self.progress.losses[since : self.progress.step]
        if bool(recent.isfinite().all()):
            return
        step, term = (int(i) for i in (~recent.isfinite()).nonzero()[0])
        what = f"loss term {self.names[term]!r} became {float(recent[step, term])}"
        raise self._diverged(what, since + step + 1)

    def _check_state(self) -> None:
        """Stop before weights that an update spoiled are measured or saved as good."""
        self._check_losses(0)  # a stop request may come between two looks
        if trouble := self.health.trouble():
            raise self._diverged(trouble, self.progress.step)

    def _diverged(self, what: str, step: int) -> Diverged:
        last = self.job.run.last
        kept = f"the last good checkpoint is {last}" if last.exists() else "no checkpoint was saved yet"
        return Diverged(
            f"{what} in epoch {self.progress.epoch}, step {step} of {self.steps}; {kept}. Lower lr or the weight of "
            "a term, or use precision=32"
        )

    def _close_epoch(self, stop: StopRequest) -> None:
        """Measure, record and save."""
        now, run = self.progress, self.job.run
        self._check_state()
        logits, labels = predict(self.job.student, self._unless_stopped(stop), self._autocast())
        row = self._row(logits, labels)
        if not math.isfinite(row["val_loss"]):
            raise self._diverged(f"the validation loss became {row['val_loss']}", now.step)
        now.rows.append(row)
        if self.job.machine.first:
            if now.best() is row:
                now.best_weights = best_weights.write_candidate(run, self.job.student)
            run.write_epochs(now.rows)
        self.reporter.epoch(row)
        now.epoch, now.step, now.seconds, now.filling, now.seen = now.epoch + 1, 0, 0.0, 0.0, 0
        now.losses.zero_()
        now.correct = self._zero()
        self._tell_unsaved()
        done = now.epoch - 1
        if done % self.options.checkpoint_every == 0 or done == self.options.epochs:
            save_progress(self.job, self.optimizer, now)

    def _unless_stopped(self, stop: StopRequest) -> Iterator[Batch]:
        """The validation batches; a request to stop is seen among them, too."""
        for place, batch in enumerate(self.val_loader.epoch(0)):
            if place % self.looks.interval == 0:
                self._stop_if(self._somebody_asked(stop), stop)
            yield batch

    def _row(self, logits: Tensor, labels: Tensor) -> dict[str, Any]:
        now = self.progress
        result, correct = score(logits, labels), now.correct
        means = now.losses[: now.step].mean(0).tolist()
        same = None if self.teacher_logits is None else agreement(logits, self.teacher_logits)
        if self.many:
            result, correct = over_all_processes(result), distributed.total(correct)
            same = None if same is None else distributed.mean_of_shares(same, len(labels))
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

    def _score_teacher(self) -> Evaluation | None:
        """Measure the teacher once; its answers are what agreement compares with."""
        if self.teaching is None:
            return None
        self.teacher_logits, labels = self.teaching.about_all(self.val_loader)
        result = score(self.teacher_logits, labels)
        if self.many:
            result = over_all_processes(result)
        if words := hardly_learned(result.top1, self.teacher_logits.shape[1]):
            self.reporter.say(
                f"warning: the teacher's accuracy is {words}; check its weights, the order of the classes, and mean/std"
            )
        return result

    def _somebody_asked(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; all have to come here."""
        asked = stop.signal_number > 0
        return int(distributed.total(self._zero() + asked)) > 0 if self.many else asked

    def _stop_if(self, asked: bool, stop: StopRequest) -> None:
        """Save and stop, in all processes at the same step; a run at its end is finished instead."""
        if not asked or self.progress.epoch > self.options.epochs:
            return
        self._check_state()
        self._tell_unsaved()
        save_progress(self.job, self.optimizer, self.progress)
        if self.many:
            distributed.wait_for_all()  # torchrun ends the others as soon as one has left
        raise Stopped(
            f"stopped in epoch {self.progress.epoch} after step {self.progress.step}; everything is saved in "
            f"{self.job.run.path}. The same command goes on from there",
            stop.signal_number or signal.SIGTERM,
        )

    def _tell_unsaved(self) -> None:
        """Say once, with the first checkpoint, what no checkpoint has."""
        for line in () if self.unsaved is None else self.unsaved.warnings():
            self.reporter.say(line)
        self.unsaved = None

    def _latest(self) -> dict[str, float]:
        values = self.progress.losses[self.progress.step - 1].tolist()
        return dict(zip(self.names, values, strict=True))

    def _place(self) -> tuple[int, int, int]:
        return self.progress.place(self.options.seed)

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.long, device=self.job.machine.device)

    def _autocast(self) -> AbstractContextManager[None]:
        return self.job.machine.autocast()
