"""Check a packed set against its manifest: every byte of every shard, and the header of every image."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from stillroom.data.arrow_file import ArrowFile
from stillroom.data.decoding import open_image, pillow_silent, reason_of
from stillroom.data.pack_manifest import PackManifest, ShardRecord, require_manifest
from stillroom.data.pack_writer import file_sha256
from stillroom.data.process_pool import map_in_processes
from stillroom.data.shard_store import ShardStore
from stillroom.errors import InputError
from stillroom.files import first_few
from stillroom.formatting import counted


def check_pack(
    folder: Path,
    *,
    jobs: int = 1,
    report: Callable[[str], object] = lambda name: None,  # noqa: ARG005
) -> tuple[PackManifest, list[str]]:
    """Check every shard.

    Args:
        folder: the packed set.
        jobs: number of processes, >= 1.
        report: receives the name of each shard that was checked.

    Returns:
        The manifest, and a message for each shard that differs from it.

    Raises:
        InputError: there is no manifest, or it is damaged.
    """
    manifest = require_manifest(folder)
    problems = []
    found = map_in_processes(partial(_check_shard, folder), manifest.shards, jobs)
    for shard, problem in zip(manifest.shards, found, strict=True):
        problems += [problem] if problem else []
        report(shard.name)
    known = {shard.name for shard in manifest.shards}
    foreign = sorted(path.name for path in folder.glob("*.arrow") if path.name not in known)
    if foreign:
        problems.append(f"{first_few(foreign)} not in the manifest")
    return manifest, problems


def _check_shard(folder: Path, shard: ShardRecord) -> str:
    path = folder / shard.name
    if not path.is_file():
        return f"{shard.name} is missing"
    size = path.stat().st_size
    if size != shard.bytes:
        return f"{shard.name} has {size:,} bytes and not {shard.bytes:,}"
    if file_sha256(path) != shard.sha256:
        return f"{shard.name} has changed: its SHA-256 is another"
    try:
        file = ArrowFile.open(path)
    except InputError as error:
        return str(error)
    if len(file.labels) != shard.rows:
        return f"{shard.name} has {len(file.labels):,} rows and not {shard.rows:,}"
    store = ShardStore([file])
    broken = []
    with pillow_silent():
        for row in range(len(store)):
            try:
                with open_image(store[row]):
                    pass
            except Exception as error:  # noqa: BLE001  a damaged file can make Pillow raise anything
                broken.append(f"row {row} ({reason_of(error)})")
    return f"{counted(len(broken), 'image')} of {shard.name} cannot be read: {first_few(broken)}" if broken else ""
