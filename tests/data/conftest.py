import json

import pytest
import torch
from PIL import Image

from stillroom.data import ImageSet
from tests.data.image_files import png


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Keeps what the tests derive out of the user's own cache."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STILLROOM_CACHE", str(folder))
        yield folder


@pytest.fixture
def small_set():
    """103 images of 5 classes, not square, ids with gaps."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (103, 3, 12, 10), dtype=torch.uint8, generator=generator)
    ids = torch.arange(103) * 3 + 7
    return ImageSet(images, torch.arange(103) % 5, ids, tuple("abcde"))


@pytest.fixture
def image():
    """Makes an image whose colour tells which one it is."""

    def make(number, size=(8, 8), mode="RGB"):
        return Image.new("RGB", size, (number * 7 % 256, 255 - number * 5 % 256, 40)).convert(mode)

    return make


@pytest.fixture
def image_folder(tmp_path, image):
    """Writes class folders of PNG images and returns their parent."""

    def make(where="", classes=("ant", "bee"), count=3, size=(8, 8)):
        number = 0
        for name in classes:
            folder = tmp_path / where / name
            folder.mkdir(parents=True)
            for index in range(count):
                image(number, size).save(folder / f"{index}.png")
                number += 1
        return tmp_path

    return make


@pytest.fixture
def parquet_file(image):
    """Writes a Parquet file as Hugging Face does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def make(path, labels, names=("ant", "bee"), encoded=None, kind="int64", raw_names=False):
        if encoded is None:
            encoded = [png(image(number)) for number in range(len(labels))]
        rows = [{"bytes": data, "path": f"{number}.png"} for number, data in enumerate(encoded)]
        images = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(rows, images), "label": pa.array(labels, kind)})
        if raw_names or names is not None:
            held = names if raw_names else list(names)
            info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": held}}}}
            table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)

    return make


@pytest.fixture
def arrow_file(image):
    """Writes an Arrow file as Hugging Face does, three rows a batch."""
    import pyarrow as pa

    def make(path, labels, encoded=None, *, stream=True, kind=None, options=None):
        if encoded is None:
            encoded = [png(image(number)) for number in range(len(labels))]
        rows = [None if data is None else {"bytes": data, "path": None} for data in encoded]
        images = pa.array(rows, pa.struct([("bytes", kind or pa.binary()), ("path", pa.string())]))
        info = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}}}
        table = pa.table({"image": images, "label": pa.array(labels, "int64")})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        path.parent.mkdir(parents=True, exist_ok=True)
        new = pa.ipc.new_stream if stream else pa.ipc.new_file
        with new(path, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=3)
        return path

    return make
