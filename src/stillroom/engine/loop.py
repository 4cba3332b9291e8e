"""The training loop. Training on labels is distillation without a teacher."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from stillroom.batch import Batch, Output
from stillroom.data import BatchLoader
from stillroom.data.decoding_workers import naming_workers
from stillroom.engine import best_weights
from stillroom.engine.accumulation import Part
from stillroom.engine.checkpoint import Progress, restore_progress, save_progress
from stillroom.engine.checkpoint_schedule import CheckpointSchedule
from stillroom.engine.data_parallel import DataParallel
from stillroom.engine.divergence import DivergenceCheck
from stillroom.engine.early_stopping import EarlyStopping
from stillroom.engine.epoch_row import epoch_row
from stillroom.engine.fine_tuning import FrozenParts
from stillroom.engine.finish import finish
from stillroom.engine.learning_rate import peak_lr
from stillroom.engine.loaders import make_loaders
from stillroom.engine.polling import Polling
from stillroom.engine.predictions import keep_teacher_predictions
from stillroom.engine.random_state import seed_from_place
from stillroom.engine.run_banner import run_banner
from stillroom.engine.training_job import Job
from stillroom.engine.training_step import TrainingStep
from stillroom.engine.unsaved_state import UnsavedState
from stillroom.engine.weight_update import WeightUpdate
from stillroom.errors import Stopped
from stillroom.losses.finite import NotFinite
from stillroom.runtime.distributed import Group
from stillroom.runtime.global_batch_norm import BatchNorms
from stillroom.runtime.peak_memory import PeakMemory, naming_memory
from stillroom.runtime.reporters import Reporter
from stillroom.runtime.signals import StopRequest, stop_requests
from stillroom.tasks.task import Found
from stillroom.teachers.teacher import Teacher


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
        self.group = Group(job.machine)
        self.group.copy_from_first([job.student, job.method])
        strong = job.method.needs_strong
        self.train_steps, self.val_loader = make_loaders(job.data, job.recipe, job.machine, strong=strong)
        self.steps = len(self.train_steps)
        self.update = WeightUpdate(job, self.steps)
        synchronised, compiled = self.options.batch_norm == "synchronised", self.options.compile
        with_norms = [job.student, job.method, *([] if self.update.averaged is None else [self.update.averaged.module])]
        self.norms = BatchNorms(with_norms, self.group, synchronised=synchronised, compiled=compiled)
        self.frozen = FrozenParts(job.student, job.head, job.recipe.optim)
        # Compiled or not, job.student stays the user's own module, with its own parameter names.
        self.runner = cast("nn.Module", torch.compile(job.student)) if compiled else job.student
        self.student_reader = job.reader("student", job.student)
        self.task = job.task
        step = TrainingStep(
            self.runner, job.method, self.student_reader, self.norms, job.machine, self.options.seed, self.task
        )
        self.gradients = DataParallel(step, self.group, self.norms, self.update.optimizer)
        self.teacher = self._place_teacher()
        self.stopping = EarlyStopping(job, self.teacher)
        self.names = job.method.term_names
        self.progress = Progress(torch.zeros(self.steps, len(self.names), device=device), self._zero())
        self.teacher_found: Found | None = None
        self.found: Found | None = None  # on the validation images, in the epoch that was validated last
        self.divergence = DivergenceCheck(job, self.update.optimizer, self.steps)
        self.polling = Polling(self.group, every_step=device.type == "cpu")
        self.schedule = CheckpointSchedule(self.options, self.steps)
        self.unsaved: UnsavedState | None = UnsavedState(job.method)

    def _place_teacher(self) -> Teacher | None:
        job = self.job
        if job.teacher is None:
            return None
        reader = job.reader("teacher", *job.teacher.modules[:1])
        loaders = (self.train_steps.loader, self.val_loader)
        sharded = self.group.many and self.options.shard_teacher
        return job.teacher.place(job.machine, self.options, loaders, self.reporter, reader=reader, sharded=sharded)

    @naming_workers()
    def run(self) -> dict[str, Any]:
        """Train to the last epoch and write the summary.

        Returns:
            The summary, as in ``summary.json``.

        Raises:
            Stopped: if Ctrl-C, SIGTERM or SIGHUP asked for it; the state is saved.
            Diverged: if a loss, a weight or the optimizer's state is NaN or infinite.
            WorkerDied: if a process that decodes images was killed.
            InputError: if the device has too little memory, or a file cannot be written.
        """
        machine, run = self.job.machine, self.job.run
        if not machine.first:
            seed_from_place(*self._place(), machine.rank)  # no two processes draw the same dropout
        if run.last.exists():
            self.progress = restore_progress(self.job, self.update, self.reporter, self.norms)
        self.group.agree((self.progress.epoch, self.progress.step), f"the place to go on from in {run.path}")
        teacher = self._score_teacher()
        done = (self.progress.epoch - 1) * self.steps + self.progress.step
        about = run_banner(self.job, self.steps, done)
        self.reporter.start(run.path.name, self.options.epochs, self.steps, done, about)
        try:
            with stop_requests() as stop, naming_memory(machine.device, self.options.batch_size):
                while not self._ended():
                    self._train_epoch(stop)
                    self._close_epoch(stop)
                    self._stop_if(self._stop_requested(stop), stop)
        finally:
            self.reporter.close()
            self.gradients.close()
            self.frozen.release()
            for hooks in (self.student_reader, self.teacher):
                if hooks is not None:
                    hooks.close()  # the models are their owner's again
        self.update.deliver()
        return finish(self.job, self.progress, teacher, self.memory, self.reporter, self.val_loader, self.found)

    def _train_epoch(self, stop: StopRequest) -> None:
        """The hot path: no checks, no waiting for the device beyond a look about once a second."""
        now = self.progress
        looked = now.step
        self.polling.pause()
        self.runner.train()
        self.frozen.begin_epoch(now.epoch)
        self.gradients.begin_epoch()
        begin = time.perf_counter() - now.seconds
        for parts in self.train_steps.epoch(now.epoch, now.step):
            values = self._add_gradients(parts)
            now.losses[now.step] = self.polling.average(values, stop, save_due=self.schedule.minutes_passed())
            now.step += 1
            if self.polling.due():
                self.divergence.check_losses(now, looked)
                self.polling.look()
                looked = now.step
            self.update.step(now.epoch, now.step - 1)
            count = self.train_steps.images_in(now.step - 1)
            now.seen += count
            self.reporter.step(now.epoch, count, self._latest)
            now.seconds = time.perf_counter() - begin
            if now.step < self.steps:
                self._stop_if(self.polling.must_stop(stop), stop)
                if self.polling.save_due or self.schedule.after_step(now.epoch, now.step):
                    self._save()
        self.divergence.check_losses(now, looked)

    def _add_gradients(self, parts: Iterable[tuple[Part, Batch]]) -> Tensor:
        """Compute the gradients of a step, and count the images classified correctly; the terms of this process."""
        now = self.progress
        values = torch.zeros_like(now.losses[now.step])
        for part, batch in parts:
            teacher = self._teacher_output(batch)
            try:
                terms, correct = self.gradients.add_gradients(batch, teacher, part, now.epoch)
            except NotFinite as error:
                raise self.divergence.error(str(error).partition(": ")[0], now, now.step + 1) from error
            values += terms
            now.correct += correct
        return values

    def _teacher_output(self, batch: Batch) -> Output | None:
        """The teacher's output for this process's part of a batch; None where no loss reads it."""
        now = self.progress
        if self.teacher is None or not self.job.method.needs_teacher_in(now.epoch):
            return None
        before = self.teacher.bank_seconds
        output = self.teacher.predict(batch)
        now.filling += self.teacher.bank_seconds - before
        return output

    def _close_epoch(self, stop: StopRequest) -> None:
        """Validate, record and save."""
        job, now, run = self.job, self.progress, self.job.run
        self.norms.average_statistics()
        self.divergence.check_state(now)
        batches = partial(self._evaluation_batches, stop)
        self.found = self.task.predict(self.update.exported, batches(self.val_loader), job.machine.autocast())
        lr, train = peak_lr(self.update.optimizer), self.train_steps.loader
        row = epoch_row(job, now, lr, self.found, self.teacher_found, train)
        if self.update.compared is not None and job.has_accuracy:
            found = self.task.predict(self.update.compared, batches(self.val_loader), job.machine.autocast())
            scores = self.task.evaluate(found, job.data.val, self.group)
            row[f"average_{self.task.score.key}"] = scores[self.task.score.key]
        loss = row.get("val_loss")
        if loss is not None and not math.isfinite(loss):
            raise self.divergence.error(f"the validation loss became {loss}", now, now.step)
        row |= self.stopping.judge(self.update.exported, now.epoch, batches)
        now.rows.append(row)
        if self.job.machine.first:
            if now.best(self.task.score) is row:
                now.best_weights = best_weights.write_candidate(run, self.update.exported)
            run.write_epochs(now.rows)
        self.reporter.epoch(row)
        now.epoch, now.step, now.seconds, now.filling, now.seen = now.epoch + 1, 0, 0.0, 0.0, 0
        now.losses.zero_()
        now.correct = self._zero()
        self._report_unsaved()
        due = self.polling.save_due or self.schedule.after_step(now.epoch, 0)
        if due or self.schedule.after_epoch(now.epoch - 1) or self._ended():
            self._write_checkpoint()

    def _evaluation_batches(self, stop: StopRequest, loader: BatchLoader, epoch: int = 0) -> Iterator[Batch]:
        """The batches of images that are not trained on; a request to stop is seen among them, too."""
        for place, batch in enumerate(loader.epoch(epoch)):
            if place % self.polling.interval == 0:
                self._stop_if(self._stop_requested(stop), stop)
            yield batch

    def _score_teacher(self) -> dict[str, Any] | None:
        """Evaluate the teacher once, if there are labels; its predictions are what agreement compares with."""
        if self.teacher is None or self.teacher.offers == "embedding":
            return None
        self.teacher_found = self.task.predict_teacher(self.teacher, self.val_loader.epoch(0))
        keep_teacher_predictions(self.job, self.teacher_found)
        if self.job.data.val.unlabelled:
            return None
        result = self.task.evaluate(self.teacher_found, self.job.data.val, self.group)
        for line in self.task.teacher_notes(result, self.teacher.class_count):
            self.reporter.say(line)
        return result

    def _stop_requested(self, stop: StopRequest) -> bool:
        """Whether any process was asked to stop; every process has to call this."""
        return self.group.any(stop.signal_number > 0)

    def _stop_if(self, asked: bool, stop: StopRequest) -> None:
        """Save and stop, in all processes at the same step; a run at its end is finished instead."""
        if not asked or self._ended():
            return
        self._save()
        self.group.wait()  # torchrun ends the others as soon as one has left
        raise Stopped(
            f"stopped in epoch {self.progress.epoch} after step {self.progress.step}; everything is saved in "
            f"{self.job.run.path}. The same command goes on from there",
            stop.signal_number or signal.SIGTERM,
        )

    def _save(self) -> None:
        """Check the state and save it, in all processes at the same step."""
        self.divergence.check_state(self.progress)
        self._report_unsaved()
        self._write_checkpoint()

    def _write_checkpoint(self) -> None:
        save_progress(self.job, self.update, self.progress, self.norms)
        self.schedule.saved()
        self.polling.save_due = False

    def _report_unsaved(self) -> None:
        """Say once, with the first checkpoint, what no checkpoint holds."""
        for line in () if self.unsaved is None else self.unsaved.warnings():
            self.reporter.say(line)
        self.unsaved = None

    def _ended(self) -> bool:
        """Whether the last epoch is done, or early stopping ends the run."""
        return self.progress.epoch > self.options.epochs or self.stopping.ended(self.progress)

    def _latest(self) -> dict[str, float]:
        values = self.progress.losses[self.progress.step - 1].tolist()
        return dict(zip(self.names, values, strict=True))

    def _place(self) -> tuple[int, int, int]:
        return self.progress.place(self.options.seed)

    def _zero(self) -> Tensor:
        return torch.zeros((), dtype=torch.long, device=self.job.machine.device)
