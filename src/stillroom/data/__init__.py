"""Images and labels become batches: sets by name or folder, held in memory, augmented batch by batch."""

from stillroom.data.augment import Augment
from stillroom.data.channel_statistics import channel_statistics
from stillroom.data.datasets import DataSet, SetDescription, describe_sets, load_data
from stillroom.data.glyphs import glyphs100
from stillroom.data.memory_loader import ImageSet, MemoryLoader

__all__ = [
    "Augment",
    "DataSet",
    "ImageSet",
    "MemoryLoader",
    "SetDescription",
    "channel_statistics",
    "describe_sets",
    "glyphs100",
    "load_data",
]
