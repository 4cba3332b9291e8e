"""``stillroom predict``: predictions for image files as a table or CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence

from rich.table import Table

from stillroom.cli_output import print_error, print_rich
from stillroom.config_file import Arguments
from stillroom.files import shown
from stillroom.formatting import inert_text
from stillroom.image_prediction import FilePrediction, predict_images


def predict_command(arguments: Arguments) -> int:
    """Print the predictions on stdout, and the notes and the unreadable images on stderr.

    Returns:
        The exit status: 1 if an image cannot be read, else 0.
    """
    settings = dict(arguments.values)
    output = settings.pop("format")
    settings["pretrained"] = settings.pop("pretrained", "false") == "true"
    found = predict_images(
        settings.pop("model"), settings.pop("images"), trust=arguments.trust, say=print_error, **settings
    )
    readable = [one for one in found if not one.problem]
    if output == "csv":
        write_csv(readable)
    elif readable:
        print_rich(prediction_table(readable))
    for one in found:
        if one.problem:
            print_error(f"{shown(one.path)} cannot be read ({one.problem})")
    return int(len(readable) < len(found))


def prediction_table(found: Sequence[FilePrediction]) -> Table:
    """The predictions as a table of rich: a row for each image and class, the image named once."""
    table = Table("image", "class")
    table.add_column("probability", justify="right")
    for one in found:
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True)):
            last = rank == len(one.classes) - 1
            image = "" if rank else shown(one.path)
            table.add_row(image, shown(name), f"{100 * probability:.1f} %", end_section=last)
    return table


def write_csv(found: Sequence[FilePrediction]) -> None:
    """Write a row for each image and class to stdout, the most probable class first."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("image", "rank", "class", "probability"))
    for one in found:
        for rank, (name, probability) in enumerate(zip(one.classes, one.probabilities, strict=True), start=1):
            writer.writerow((inert_text(shown(one.path, 4096)), rank, inert_text(name), probability))
