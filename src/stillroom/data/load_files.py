"""Load the splits of a set as files that are decoded on demand, after a look at each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stillroom.data.decoding import pillow_silent, size_of_image
from stillroom.data.file_set import FileSet
from stillroom.data.framing import Framing
from stillroom.data.listing import Listing
from stillroom.data.load_splits import LoadedSplits, LoadOptions, check_sets, side_of
from stillroom.data.problem_report import ProblemReport, check_broken
from stillroom.data.set_index import SetIndex, indexed
from stillroom.data.validation_split import held_out
from stillroom.errors import InputError
from stillroom.files import shown

_HEADERS = 1000  # images whose size is compared where no size is given


def load_files(folder: Path, train: Listing, val: Listing | None, *, options: LoadOptions) -> LoadedSplits:
    """Index both splits, or index one and hold out its validation images.

    Args:
        folder: the set, for messages.
        train: the training images, or all images where ``val`` is None.
        val: the validation images.
        options: how to load them.

    Raises:
        InputError: the set cannot be used; the message names all problems.
    """
    listings = [train] if val is None else [train, val]
    report = ProblemReport(str(folder), [problem for listing in listings for problem in listing.problems])
    if val is None:
        report.add(train.too_small_to_split())
    report.close()
    listings = [_with_store(listing, options) for listing in listings]
    indexes = [indexed(listing, say=options.say) for listing in listings]
    names, reasons = _broken(listings, indexes)
    check_broken(names, sum(len(listing.names) for listing in listings), options.skip_broken, reasons)
    shape = (3, *_size(folder, listings, indexes, options))
    framing = Framing(
        None if options.image_size is None else shape[1],
        crop_fraction=options.crop_fraction or 1.0,
        scaled_decoding=options.scaled_decoding,
    )
    sets = [_file_set(listing, index, framing, shape) for listing, index in zip(listings, indexes, strict=True)]
    if val is None:
        (whole,) = sets
        held = torch.from_numpy(
            held_out(whole.labels.numpy(), whole.digests.numpy(), options.val_fraction, options.seed)
        )
        sets = [whole.at((~held).nonzero().flatten()), whole.at(held.nonzero().flatten())]
    check_sets(train, sets)
    notes = tuple(note for listing in listings for note in listing.notes)
    return LoadedSplits(sets[0], sets[1], tuple(names), notes)


def _with_store(listing: Listing, options: LoadOptions) -> Listing:
    """A listing with random access to its images."""
    return listing if listing.copy is None else replace(listing, store=listing.copy(options.say))


def _broken(listings: Sequence[Listing], indexes: Sequence[SetIndex]) -> tuple[list[str], list[str]]:
    """The names of unreadable images, and the reason of each."""
    pairs = list(zip(listings, indexes, strict=True))
    names = [shown(listing.names[place]) for listing, index in pairs for place in index.broken]
    return names, [reason for _, index in pairs for reason in index.reasons]


def _size(
    folder: Path, listings: Sequence[Listing], indexes: Sequence[SetIndex], options: LoadOptions
) -> tuple[int, int]:
    """Height and width of the images in batches."""
    side = side_of(listings, options)
    if side is not None:
        return side, side
    sizes: dict[tuple[int, int], str] = {}
    with pillow_silent():
        for listing, index in zip(listings, indexes, strict=True):
            usable = np.delete(np.arange(len(listing.names)), list(index.broken))
            for place in usable[np.linspace(0, len(usable) - 1, min(_HEADERS, len(usable))).astype(int)].tolist():
                sizes.setdefault(size_of_image(index.store[place]), listing.names[place])
    if len(sizes) > 1:
        two = " and ".join(f"{width}x{height}" for height, width in list(sizes)[:2])
        raise InputError(
            f"image_size is None but images of {shown(folder)} differ in size ({two}); give image_size, such as 224"
        )
    return next(iter(sizes))


def _file_set(listing: Listing, index: SetIndex, framing: Framing, shape: tuple[int, int, int]) -> FileSet:
    """The readable images of a split; their ids are indices into the listing."""
    places = torch.from_numpy(np.delete(np.arange(len(listing.names)), list(index.broken)))
    return FileSet(
        store=index.store,
        names=listing.names,
        places=places,
        labels=torch.from_numpy(listing.labels)[places],
        ids=places,
        classes=listing.classes,
        digests=torch.from_numpy(index.digests)[places],
        framing=framing,
        shape=shape,
    )
