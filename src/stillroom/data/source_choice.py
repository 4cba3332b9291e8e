"""Source choice: whether the images of a set are held in memory or decoded from files on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stillroom.data.listing import Listing
from stillroom.data.load_files import load_files
from stillroom.data.load_splits import (
    LoadedSplits,
    LoadOptions,
    bytes_needed,
    larger_than_default,
    load_splits,
    side_of,
)
from stillroom.data.memory_limit import shortage
from stillroom.errors import InputError


def load_listings(folder: Path, train: Listing, val: Listing | None, *, options: LoadOptions) -> LoadedSplits:
    """Load a listed set from where the options say, or from where its size says.

    Args:
        folder: the set, for messages.
        train: the training images, or all images where ``val`` is None.
        val: the validation images.
        options: how to load them.

    Raises:
        InputError: the set cannot be used; the message names all problems.
    """
    listings = [train] if val is None else [train, val]
    if larger_than_default(listings, options):
        options = replace(options, image_size=options.default_size)
    why = why_files(listings, options)
    if not why:
        return load_splits(folder, train, val, options=options)
    loaded = load_files(folder, train, val, options=options)
    return loaded._replace(notes=(*loaded.notes, why) if options.source == "auto" else loaded.notes)


def why_files(listings: Sequence[Listing], options: LoadOptions) -> str:
    """Say why images are read from files; empty where they are held in memory.

    Args:
        listings: of the splits.
        options: how to load them.

    Raises:
        InputError: source=memory with a setting that requires files.
    """
    only_files = {
        f"crop_fraction={options.crop_fraction}": options.crop_fraction not in (None, 1.0),
        "scaled_decoding=true": options.scaled_decoding,
    }
    asked = next((text for text, given in only_files.items() if given), "")
    if options.source == "memory" and asked:
        raise InputError(f"source=memory with {asked}, which requires images from files; give source=files")
    if options.source == "memory":
        return ""
    if options.source == "files":
        return "source=files"
    if asked:
        return f"{asked}: the images are read from files when they are needed (source=files)"
    if any(listing.problems for listing in listings):
        return ""  # they are reported
    side = side_of(listings, options)
    size = next((size for listing in listings if (size := listing.size(side))), None)
    if size is None:
        return ""
    short = shortage(bytes_needed([listing.labels for listing in listings], (3, *size), options), options.copies)
    if not short:
        return ""
    count = sum(len(listing.names) for listing in listings)
    at = f"{count:,} images at {size[1]}x{size[0]} pixels"
    return f"{at} {short}; they are read from files when they are needed (source=files)"
