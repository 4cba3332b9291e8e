"""Pack a set of images into Arrow shards, in processes; a killed pack continues where it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from stillroom.data.boxed_folder import layout_of
from stillroom.data.decoding import pillow_silent
from stillroom.data.image_store import Encoded
from stillroom.data.list_folder import list_folder
from stillroom.data.listing import Listing
from stillroom.data.pack_image import PackedImage, PackSettings, pack_image
from stillroom.data.pack_manifest import MANIFEST, PackManifest, SplitRecord
from stillroom.data.pack_progress import (
    LOCK,
    FinishedShard,
    PackProgress,
    PlannedShard,
    listing_digest,
    read_progress,
    refuse_other_content,
    source_state,
)
from stillroom.data.pack_writer import PackedRow, write_shard
from stillroom.data.problem_report import ProblemReport, check_broken
from stillroom.data.process_pool import map_in_processes
from stillroom.errors import InputError, InUse
from stillroom.files import make_folder, remove_temporary_files, shown, write_failure
from stillroom.formatting import size_in_words

_BLOCK = 64  # images of a task and of a record batch
_SAMPLE = 64  # images whose size tells how many go into a shard
_ROOM = 1.1  # times the estimated size must be free

_Outcome = PackedImage | str  # or why the image cannot be read


@dataclass(frozen=True, slots=True)
class PackStep:
    """What a pack reports while it works.

    Attributes:
        done: images that are finished, those of an earlier call included.
        total: all images.
        shard: name of the shard that is finished with this step; empty if none is.
    """

    done: int
    total: int
    shard: str = ""


def pack(
    source: Path,
    folder: Path,
    settings: PackSettings | None = None,
    *,
    jobs: int | None = None,
    skip_broken: float = 0.0,
    report: Callable[[PackStep], object] = lambda step: None,  # noqa: ARG005
) -> PackManifest:
    """Pack a set; call it again with the same arguments to continue after a kill, or after an error was repaired.

    Args:
        source: a folder in any layout that :func:`stillroom.data.list_folder.list_folder` recognises.
        folder: a new folder, or that of an unfinished pack of the same set with the same settings.
        settings: size, quality and so on.
        jobs: number of worker processes, >= 1; None for one per core. It has no effect on the result.
        skip_broken: in [0, 1]; fraction of unreadable images to tolerate and leave out.
        report: receives each step.

    Returns:
        The manifest, which is written last.

    Raises:
        InputError: the set or an argument cannot be used, the folder holds something else, or there is too little room;
            or too many images cannot be read: the message names them, and what is finished is kept.
        InUse: another process packs into the folder.
        WorkerDiedError: a worker process died; what is finished is kept.
    """
    from filelock import FileLock, Timeout

    settings = settings or PackSettings()
    jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
    _check_arguments(source, folder, settings, jobs, skip_broken)
    refuse_other_content(folder)
    splits = _list_splits(source, settings)
    make_folder(folder)
    try:
        # Workers of a killed pack may hold the lock for a moment.
        with FileLock(folder / LOCK, timeout=10, fallback_to_soft=False):
            try:
                remove_temporary_files(folder.iterdir(), older_than=None)
                return _Packing(source, folder, settings, splits, report).run(jobs, skip_broken)
            finally:
                (folder / LOCK).unlink(missing_ok=True)
    except Timeout:
        raise InUse(f"{shown(folder)} is in use: another process packs into it; wait for it or stop it") from None


def _check_arguments(source: Path, folder: Path, settings: PackSettings, jobs: int, skip_broken: float) -> None:
    settings.check()
    if jobs < 1:
        raise InputError(f"jobs is {jobs}; give 1 or more")
    if not 0 <= skip_broken <= 1:
        raise InputError(f"skip_broken is {skip_broken}; give a fraction from 0 to 1, such as 0.01")
    if not source.is_dir():
        raise InputError(f"SRC is {shown(source)}, which is not a folder; give the folder of a set")
    if layout_of(source) is not None:
        raise InputError(
            f"SRC is {shown(source)}, whose images have boxes, which shards do not keep; train on it as it is"
        )
    one, other = source.resolve(), folder.resolve()
    if one == other or one in other.parents:
        raise InputError(f"DEST is {shown(folder)}, inside SRC; give a folder elsewhere")
    if other in one.parents:
        raise InputError(f"DEST is {shown(folder)}, which contains SRC; give a folder elsewhere")


def _list_splits(source: Path, settings: PackSettings) -> dict[str, Listing]:
    train, val = list_folder(source, settings.class_depth)
    splits = {"train": train} if val is None else {"train": train, "val": val}
    report = ProblemReport(str(source), [problem for listing in splits.values() for problem in listing.problems])
    report.close()
    return splits


class _Packing:
    """One call of :func:`pack`, behind its checks."""

    def __init__(
        self,
        source: Path,
        folder: Path,
        settings: PackSettings,
        splits: dict[str, Listing],
        report: Callable[[PackStep], object],
    ) -> None:
        self.source, self.folder, self.settings, self.splits, self.report = source, folder, settings, splits, report
        self.counts = {name: len(listing.labels) for name, listing in splits.items()}
        self.total = sum(self.counts.values())
        self.done = 0
        identity = {"source": str(source.resolve()), **settings.record(), "listing": listing_digest(source, splits)}
        self.progress = read_progress(folder, identity) or self._plan(identity)

    def _plan(self, identity: dict[str, Any]) -> PackProgress:
        """Estimate how many images go into a shard, and refuse a disk that is too small."""
        sizes = []
        with pillow_silent():
            for source in chain.from_iterable(_sample(listing) for listing in self.splits.values()):
                outcome = _try(self.settings, source)
                sizes += [] if isinstance(outcome, str) else [len(outcome.encoded)]
        mean = max(1.0, float(np.mean(sizes))) if sizes else 1e5
        needed, free = round(mean * self.total * _ROOM), shutil.disk_usage(self.folder).free
        if needed > free:
            raise InputError(
                f"DEST is {shown(self.folder)}: about {size_in_words(needed, up=True)} are needed and "
                f"{size_in_words(free)} are free there; make room, or give a smaller size or quality"
            )
        rows = max(1, round(1e6 * self.settings.shard_mb / mean / _BLOCK)) * _BLOCK
        return PackProgress(self.folder, identity, rows)

    def run(self, jobs: int, skip_broken: float) -> PackManifest:
        planned = list(self.progress.shards(self.counts))
        states = {shard.name: source_state(self.splits[shard.split], shard.places) for shard in planned}
        missing = [shard for shard in planned if not self.progress.is_finished(shard, states[shard.name])]
        self.done = self.total - sum(len(shard.places) for shard in missing)
        if missing:
            (self.folder / MANIFEST).unlink(missing_ok=True)
            for path in self.folder.glob("*.arrow"):
                if path.name not in states:
                    raise InputError(f"{shown(path)} does not belong to this pack; remove it")
        self.progress.write()
        self.report(PackStep(self.done, self.total))
        with closing(map_in_processes(self._pack_some, self._tasks(missing), jobs)) as outcomes:
            for shard in missing:
                self._write(shard, states[shard.name], outcomes)
        return self._finish(planned, skip_broken)

    def _tasks(self, shards: Sequence[PlannedShard]) -> Iterator[tuple[str, range, Sequence[Encoded] | None]]:
        """Divide shards into blocks. Images that can only be read in order are read here and travel with the task."""
        streams = {name: _in_blocks(listing) for name, listing in self.splits.items() if listing.store is None}
        for shard in shards:
            for start in range(shard.places.start, shard.places.stop, _BLOCK):
                places = range(start, min(start + _BLOCK, shard.places.stop))
                stream = streams.get(shard.split)
                yield shard.split, places, None if stream is None else next(s for p, s in stream if p == start)

    def _pack_some(self, task: tuple[str, range, Sequence[Encoded] | None]) -> list[_Outcome]:
        split, places, sources = task
        store = self.splits[split].store
        with pillow_silent():
            if sources is not None:
                return [_try(self.settings, source) for source in sources]
            assert store is not None
            return [_try(self.settings, store[place]) for place in places]

    def _write(self, shard: PlannedShard, state: str, outcomes: Iterator[list[_Outcome]]) -> None:
        listing = self.splits[shard.split]
        broken: list[tuple[int, str]] = []

        def batches() -> Iterator[Sequence[PackedRow]]:
            for start in range(shard.places.start, shard.places.stop, _BLOCK):
                rows = []
                block = next(outcomes)
                for place, outcome in enumerate(block, start=start):
                    if isinstance(outcome, str):
                        broken.append((place, outcome))
                        continue
                    label = int(listing.labels[place])
                    own = outcome.content if listing.content is None else int(listing.content[place])
                    image = PackedImage(outcome.encoded, own)
                    rows.append(PackedRow(image, listing.names[place], label if label >= 0 else None))
                self.done += len(block)
                self.report(PackStep(self.done, self.total))
                yield rows

        try:
            record = write_shard(self.folder / shard.name, listing.classes, batches())
        except OSError as error:
            raise write_failure(self.folder / shard.name, error, self.settings.shard_mb * 10**6) from None
        self.progress.finished[shard.name] = FinishedShard(record, state, broken)
        self.progress.write()
        self.report(PackStep(self.done, self.total, shard.name))

    def _finish(self, planned: Sequence[PlannedShard], skip_broken: float) -> PackManifest:
        broken: dict[str, list[int]] = {name: [] for name in self.splits}
        names: list[str] = []
        reasons: list[str] = []
        for shard in planned:
            for place, reason in self.progress.finished[shard.name].broken:
                broken[shard.split].append(place)
                names.append(self.splits[shard.split].names[place])
                reasons.append(reason)
        check_broken(names, self.total, skip_broken, reasons)
        splits = {name: _split_record(listing, broken[name]) for name, listing in self.splits.items()}
        settings = {name: value for name, value in self.progress.identity.items() if name != "source"}
        manifest = PackManifest(
            self.progress.identity["source"], settings, list(self.splits["train"].classes), splits,
            [self.progress.finished[shard.name].record for shard in planned],
        )  # fmt: skip
        manifest.write(self.folder)
        return manifest


def _split_record(listing: Listing, broken: Sequence[int]) -> SplitRecord:
    labels = np.delete(listing.labels, broken)
    per_class = np.bincount(labels[labels >= 0], minlength=len(listing.classes)).tolist()
    names = [shown(listing.names[place]) for place in broken]
    return SplitRecord(len(labels), per_class, int((labels < 0).sum()), names)


def _try(settings: PackSettings, source: Encoded) -> _Outcome:
    try:
        return pack_image(source, settings)
    except OSError as error:
        return str(error)


def _in_blocks(listing: Listing) -> Iterator[tuple[int, list[Encoded]]]:
    images = chain.from_iterable(listing.chunks())
    for start in range(0, len(listing.labels), _BLOCK):
        yield start, list(islice(images, _BLOCK))


def _sample(listing: Listing) -> Iterator[Encoded]:
    """Some images of a split, evenly spaced where any can be read."""
    if listing.store is None:
        yield from islice(chain.from_iterable(listing.chunks()), _SAMPLE)
    else:
        count = len(listing.labels)
        yield from (listing.store[place] for place in range(0, count, max(1, count // _SAMPLE)))
