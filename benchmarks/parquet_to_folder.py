"""Write the first classes of a Parquet image set as an ImageFolder.

python benchmarks/parquet_to_folder.py ../shared/data/tiny-imagenet-200-32px /tmp/folder 5
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq


def main(source: Path, target: Path, classes: int) -> None:
    for split in ("train", "validation"):
        table = pq.read_table(source / f"{split}.parquet", columns=["image", "label"])
        table = table.filter(pc.less(table["label"], classes))
        for place, row in enumerate(table.to_pylist()):
            folder = target / split / f"class{row['label']:03}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{place:05}.jpg").write_bytes(row["image"]["bytes"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
