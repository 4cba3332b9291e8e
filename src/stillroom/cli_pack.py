"""``stillroom pack``: pack a set of images into Arrow shards, or check a packed one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stillroom.cli_output import print_error, print_rich
from stillroom.config_file import Arguments
from stillroom.data.pack import PackStep, pack
from stillroom.data.pack_check import check_pack
from stillroom.data.pack_image import PackSettings
from stillroom.data.pack_manifest import PackManifest
from stillroom.data.process_pool import WorkerDiedError
from stillroom.errors import InputError
from stillroom.formatting import counted, size_in_words

_Show = Callable[[PackStep], object]


def pack_command(arguments: Arguments) -> int:
    """Pack or check.

    Returns:
        The exit status: 1 if the packed set differs from its manifest, or a worker process died; else 0.
    """
    options = dict(arguments.values)
    folders = [Path(folder).expanduser() for folder in options.pop("folders")]
    jobs = options.pop("jobs", None)
    if options.pop("check"):
        if len(folders) != 1:
            raise InputError(f"--check with {len(folders)} folders; give one, the packed set")
        return _check(folders[0], jobs)
    if len(folders) != 2:
        raise InputError(f"pack with {counted(len(folders), 'folder')}; give SRC and DEST")
    skip_broken = options.pop("skip_broken")
    try:
        with progress_bar() as show:
            source, target = folders
            settings = PackSettings(**options)
            manifest = pack(source, target, settings, jobs=jobs, skip_broken=skip_broken, report=show)
    except WorkerDiedError as error:
        print_error(f"error: {error}; finished shards are kept: run the same command again, perhaps with fewer --jobs")
        return 1
    print_rich(_summary(manifest))
    print(target)
    return 0


def _check(folder: Path, jobs: int | None) -> int:
    manifest, problems = check_pack(folder, jobs=jobs or len(os.sched_getaffinity(0)))
    if problems:
        print_error(f"error: {folder}: {'; '.join(problems)}; pack or copy the set again")
        return 1
    print_rich(f"{_summary(manifest)}: as the manifest says")
    return 0


def _summary(manifest: PackManifest) -> str:
    splits = " and ".join(f"{split.images:,} {name} images" for name, split in manifest.splits.items())
    size = size_in_words(sum(shard.bytes for shard in manifest.shards))
    broken = sum(len(split.broken) for split in manifest.splits.values())
    left_out = f", {counted(broken, 'unreadable image')} left out" if broken else ""
    return f"{splits}{left_out}, {len(manifest.classes):,} classes, {counted(len(manifest.shards), 'shard')}, {size}"


@contextmanager
def progress_bar() -> Iterator[_Show]:
    """Show a bar with images/s on a terminal; elsewhere print a line for each finished shard."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from stillroom.runtime.reporters import make_console

    console = make_console(stderr=True)
    begin, before = time.monotonic(), -1

    def speed(step: PackStep) -> float:
        nonlocal before
        before = step.done if before < 0 else before  # images of an earlier call
        return (step.done - before) / max(1e-9, time.monotonic() - begin)

    if not console.is_terminal:

        def line(step: PackStep) -> None:
            per_second = speed(step)
            if step.shard:
                print_error(f"{step.shard}: {step.done:,} of {step.total:,} images, {per_second:,.0f} images/s")

        yield line
        return
    columns = (
        TextColumn("packing"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True), TextColumn("left"),
    )  # fmt: skip
    with Progress(*columns, console=console, refresh_per_second=8) as bar:
        task = bar.add_task("packing", total=None, speed="")

        def update(step: PackStep) -> None:
            bar.update(task, completed=step.done, total=step.total, speed=f"{speed(step):,.0f} images/s")

        yield update
