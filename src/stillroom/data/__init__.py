"""Load image data sets by name or folder, hold them in memory, and make augmented batches."""

from stillroom.data.augment import Augment
from stillroom.data.batch_loader import BatchLoader
from stillroom.data.channel_statistics import channel_statistics
from stillroom.data.dataset import DataSet
from stillroom.data.glyphs import glyphs100
from stillroom.data.image_set import ImageSet
from stillroom.data.load_data import load_data
from stillroom.data.loader import Loader
from stillroom.data.named_sets import SetDescription, describe_sets

__all__ = [
    "Augment",
    "BatchLoader",
    "DataSet",
    "ImageSet",
    "Loader",
    "SetDescription",
    "channel_statistics",
    "describe_sets",
    "glyphs100",
    "load_data",
]
