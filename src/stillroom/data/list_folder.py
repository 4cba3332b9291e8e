"""List the images of a folder in any layout: class folders, Arrow, Parquet or tar files, ImageNet or Tiny-ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from stillroom.data.arrow_shards import find_arrow, list_arrow
from stillroom.data.image_folder import list_image_folder
from stillroom.data.imagenet_layout import find_imagenet, list_imagenet
from stillroom.data.listing import Listing
from stillroom.data.parquet import find_parquet, list_parquet
from stillroom.data.tar_shards import find_tars, list_tars
from stillroom.data.tiny_imagenet import is_tiny_imagenet, list_tiny_imagenet
from stillroom.data.unlabelled_folder import list_unlabelled_folder
from stillroom.errors import InputError
from stillroom.files import shown


def list_folder(
    folder: Path,
    class_depth: int = 1,
    *,
    labels: Literal["auto", "none"] = "auto",
    classes: Sequence[str] | None = None,
) -> tuple[Listing, Listing | None]:
    """Recognise the layout of a folder and list its images; none is decoded.

    Args:
        folder: the set.
        class_depth: how many levels below the folder, or below its splits, the class folders are.
        labels: "none" takes images that are not in class folders, too.
        classes: the names of the classes where neither training nor validation images have labels.

    Returns:
        The training and the validation listing; the second is None if the set has no validation split.

    Raises:
        InputError: the folder or a file cannot be opened, or there are no class folders for ``class_depth``.
    """
    try:
        shards = find_arrow(folder)
        files = find_parquet(folder) if shards is None else None
        tars = find_tars(folder) if shards is None and files is None else None
        imagenet = find_imagenet(folder)
        if class_depth > 1 and (shards or files or tars or imagenet or is_tiny_imagenet(folder)):
            raise InputError(f"class_depth is {class_depth} but {shown(folder)} has no class folders; leave it out")
        if shards is not None:
            return list_arrow(*shards, need_labels=labels == "auto")
        if files is not None:
            return list_parquet(*files, need_labels=labels == "auto")
        if tars is not None:
            return list_tars(*tars, need_labels=labels == "auto")
        if is_tiny_imagenet(folder):
            return list_tiny_imagenet(folder)
        if imagenet is not None:
            return list_imagenet(folder, imagenet)
        if labels == "none":
            return list_unlabelled_folder(folder, class_depth, None if classes is None else tuple(classes))
        return list_image_folder(folder, class_depth)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise InputError(f"{shown(folder)} cannot be opened ({reason}); allow it") from None
