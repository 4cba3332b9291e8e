"""File set: a source of images of any size in files, decoded when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from stillroom.data.file_feed import Decoder, FileFeed
from stillroom.data.fixed_size_source import FixedSizeSource
from stillroom.data.framing import Framing
from stillroom.data.image_store import ImageStore
from stillroom.data.source import check_vectors
from stillroom.fingerprint import tensors_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from stillroom.data.augment import Augment


@dataclass(frozen=True, slots=True, eq=False)
class FileSet(FixedSizeSource):
    """Images in files with labels, ids and class names.

    Attributes:
        store: the encoded images, more than those of this set.
        names: the name of each image in the store, for messages.
        places: int64 tensor (N,), the index in the store of each image.
        labels: int64 tensor (N,), values in [0, len(classes)); -1 for an image without a label.
        ids: int64 tensor (N,), the index of each image in the full set, each once.
        classes: the names of the classes.
        digests: int64 tensor (N,), a hash of each image's file.
        framing: how images are cut and resized for validation.
        shape: channels, height and width of the result.

    Raises:
        InputError: a tensor has another type or shape, or a label has no class.
    """

    kind: ClassVar[str] = "files"
    crops_whole: ClassVar[bool] = True

    store: ImageStore
    names: Sequence[str]
    places: Tensor
    labels: Tensor
    ids: Tensor
    classes: tuple[str, ...]
    digests: Tensor
    framing: Framing
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        check_vectors(len(self.places), places=self.places, labels=self.labels, ids=self.ids, digests=self.digests)
        self.check_labels()

    def at(self, places: Tensor) -> FileSet:
        """Return the images at the indices ``places``, int64 (n,), as a set."""
        vectors = {name: getattr(self, name)[places] for name in ("places", "labels", "ids", "digests")}
        return replace(self, **vectors)

    def content(self) -> Tensor:
        """Return the hash of each image's file, int64 (N,)."""
        return self.digests

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any file, id, the order, or the framing."""
        text = f"{tensors_digest(self.digests, self.ids)} {self.framing} {self.shape}"
        text += getattr(self.store, "pack_digest", "")  # the digests of a packed set are those of the original files
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def pixels(self, places: Tensor) -> Tensor:
        """Decode the images at ``places`` as for validation: uint8 (n, C, H, W)."""
        return self._decoder(self.framing).some(self.places[places].tolist())

    def feed(self, augment: Augment | None, device: torch.device, workers: int) -> FileFeed:
        """Open the images: with a random crop of the whole image where the augmentation has one."""
        if augment is None:
            framing = self.framing
        else:
            framing = replace(self.framing, crop_fraction=1.0, min_scale=augment.min_scale)
        return FileFeed(self._decoder(framing), self.places, device, workers)

    def _decoder(self, framing: Framing) -> Decoder:
        return Decoder(self.store, self.names, framing, self.shape)
