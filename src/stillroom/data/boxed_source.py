"""Boxed source: encoded images of any size with the boxes of the objects in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Unpack

import numpy as np
import torch
from PIL import Image

from stillroom.boxes import ImageBoxes
from stillroom.data.boxed_loader import BoxedLoader, refuse_augment
from stillroom.data.decoding import open_image, pillow_silent, upright_rgb
from stillroom.data.image_store import ImageStore
from stillroom.data.source import Source, check_vectors
from stillroom.errors import InputError
from stillroom.files import shown
from stillroom.fingerprint import tensors_digest

if TYPE_CHECKING:
    from torch import Tensor

    from stillroom.data.augment import Augment
    from stillroom.data.batch_loader import LoaderOptions

_RESIZING = "torchvision: the shorter side to image_size, the longer side at most max_size"  # part of the fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class BoxedSource(Source):
    """Encoded images with the boxes of their objects, ids and class names.

    Attributes:
        store: the encoded images, more than those of this source.
        names: the name of each image in the store, for messages.
        places: int64 tensor (N,), the index in the store of each image.
        ids: int64 tensor (N,), the index of each image in the full set, each once.
        labels: int64 tensor (N,), zeros: an image has no label of its own, its objects have.
        classes: the names of the classes of objects, without background.
        digests: int64 tensor (N,), a hash of each image's file.
        sizes: int64 tensor (N, 2), height and width of each upright image.
        objects: the objects of each image, in pixels of the upright image.
        image_size: the shorter side of a resized image in pixels.
        max_size: the longest side of a resized image in pixels; >= ``image_size``.

    Raises:
        InputError: a tensor has another type or shape, an object has a label without a class, or a size is below 1.
    """

    task: ClassVar[Literal["classification", "detection"]] = "detection"
    kind: ClassVar[str] = "files"
    one_size: ClassVar[bool] = False
    least_val_batch: ClassVar[int] = 1

    store: ImageStore
    names: Sequence[str]
    places: Tensor
    ids: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    digests: Tensor
    sizes: Tensor
    objects: tuple[ImageBoxes, ...]
    image_size: int
    max_size: int

    def __post_init__(self) -> None:
        count = len(self.places)
        check_vectors(count, places=self.places, labels=self.labels, ids=self.ids, digests=self.digests)
        if self.sizes.dtype != torch.int64 or self.sizes.shape != (count, 2):
            raise InputError(f"sizes is {self.sizes.dtype} {tuple(self.sizes.shape)}; give int64 of shape ({count}, 2)")
        if len(self.objects) != count:
            raise InputError(f"objects has {len(self.objects)} entries for {count} images; give one an image")
        if self.image_size < 1 or self.max_size < self.image_size:
            raise InputError(
                f"image_size is {self.image_size} and max_size {self.max_size}; give 1 or more, and max_size not below "
                "image_size"
            )
        found = self.object_labels()
        if len(found) and not 0 <= int(found.min()) <= int(found.max()) < len(self.classes):
            raise InputError(
                f"labels of objects run from {int(found.min())} to {int(found.max())}; with {len(self.classes)} "
                f"classes give 0 to {len(self.classes) - 1}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels and ``image_size`` twice: a nominal shape, because batches differ in height and width."""
        return (3, self.image_size, self.image_size)

    def at(self, places: Tensor) -> BoxedSource:
        """Return the images at the indices ``places``, int64 (n,), with their objects, as a source."""
        vectors = {name: getattr(self, name)[places] for name in ("places", "ids", "labels", "digests", "sizes")}
        return replace(self, **vectors, objects=self.objects_at(places))

    def objects_at(self, places: Tensor) -> tuple[ImageBoxes, ...]:
        """Return the objects of the images at ``places``, int64 (n,), in pixels of the upright images."""
        return tuple(self.objects[place] for place in places.tolist())

    def object_labels(self) -> Tensor:
        """Return the labels of all objects, int64 (M,), image by image."""
        return torch.cat([found.labels for found in self.objects]) if self.objects else torch.zeros(0, dtype=torch.long)

    def content(self) -> Tensor:
        """Return the hash of each image's file, int64 (N,)."""
        return self.digests

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any file, object, class, id, the order, or the sizes."""
        counts = torch.tensor([len(found) for found in self.objects])
        boxes, crowd = torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool)
        if self.objects:
            boxes = torch.cat([found.boxes for found in self.objects])
            crowd = torch.cat([found.crowd for found in self.objects])
        digest = tensors_digest(self.digests, self.ids, self.sizes, counts, boxes, self.object_labels(), crowd)
        text = f"{digest} {self.classes} {self.image_size} {self.max_size} {_RESIZING}"
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]

    def select(self, first_classes: int | None = None, per_class: int | None = None) -> BoxedSource:
        """Return the source itself: an image with boxes belongs to no single class.

        Raises:
            InputError: a selection by class is given.
        """
        for name, value in (("first_classes", first_classes), ("per_class", per_class)):
            if value is not None:
                raise InputError(f"{name} is {value}, but an image with boxes belongs to no single class; leave it out")
        return self

    def pixels(self, places: Tensor) -> Tensor:
        """Decode the images at ``places`` for a preview: uint8 (n, 3, image_size, image_size) on the CPU.

        Each image is resized so that its longer side is ``image_size``, is at the upper left, and is padded with black.

        Raises:
            InputError: an image cannot be read; the message names it.
        """
        images = torch.zeros((len(places), *self.shape), dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool, pillow_silent():
            list(pool.map(self._preview_into, images, self.places[places].tolist()))
        return images

    def check_augment(self, augment: Augment) -> None:
        """Refuse every augmentation but the flip.

        Raises:
            InputError: naming the setting.
        """
        refuse_augment(augment)

    def loader(self, **options: Unpack[LoaderOptions]) -> BoxedLoader:
        """Return a loader of the images with their boxes, see :class:`stillroom.data.boxed_loader.BoxedLoader`."""
        return BoxedLoader(self, **options)

    def _preview_into(self, out: Tensor, place: int) -> None:
        try:
            with open_image(self.store[place]) as (_, image):
                rgb = upright_rgb(image)
                scale = self.image_size / max(rgb.size)
                width, height = (max(1, round(edge * scale)) for edge in rgb.size)
                # A JPEG is decoded only here: its file has to be open.
                small = rgb.resize((width, height), Image.Resampling.BILINEAR)
        except Exception as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{shown(self.names[place])} cannot be read ({error}); repair or remove it") from error
        out[:, :height, :width] = torch.from_numpy(np.array(small).transpose(2, 0, 1))


def default_max_size(image_size: int) -> int:
    """Return the longest side for a shorter side: 5/3 of it, as 1333 for 800 in published detectors."""
    return 5 * image_size // 3
