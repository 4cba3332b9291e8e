"""One small set with boxes, written in each layout, for tests."""

from __future__ import annotations

import json

import numpy as np
import yaml
from PIL import Image

CLASSES = ("ant", "bee", "cat")
# Of each split and image: width, height, and objects as (class, left, top, right, bottom, crowd), in whole pixels.
SPLITS = {
    "train": {
        "a": (40, 30, [("ant", 2, 3, 12, 13, False), ("cat", 20, 10, 40, 30, False)]),
        "b": (32, 48, [("bee", 0, 0, 8, 16, False), ("ant", 4, 4, 28, 44, True)]),
        "c": (24, 24, []),
    },
    "val": {"d": (40, 40, [("cat", 10, 10, 20, 30, False)]), "e": (20, 30, [("bee", 5, 6, 15, 16, False)])},
}


def write_images(folder, split, suffix="jpg"):
    """Images of a split; each has its own pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (width, height, _) in SPLITS[split].items():
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.{suffix}")


def coco_content(split):
    """What a JSON file of COCO holds; ids of categories are 3, 7 and 12."""
    numbers = dict(zip(CLASSES, (3, 7, 12), strict=True))
    images, annotations = [], []
    for number, (name, (width, height, objects)) in enumerate(SPLITS[split].items(), start=100):
        images.append({"id": number, "file_name": f"{name}.jpg", "width": width, "height": height})
        annotations += [
            {"id": len(annotations) + place, "image_id": number, "category_id": numbers[label], "iscrowd": int(crowd),
             "bbox": [left, top, right - left, bottom - top], "segmentation": [[left, top, right, bottom]]}
            for place, (label, left, top, right, bottom, crowd) in enumerate(objects, start=1)
        ]  # fmt: skip
    categories = [{"id": number, "name": name, "supercategory": "animal"} for name, number in numbers.items()]
    return {"images": images, "annotations": annotations, "categories": categories[::-1]}


def write_coco(root, change=lambda split, content: content):
    """COCO's own layout; ``change`` edits what a file holds."""
    for split in SPLITS:
        write_images(root / f"{split}2017", split)
        path = root / "annotations" / f"instances_{split}2017.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(change(split, coco_content(split))))
    return root


def write_roboflow(root):
    """The layout of Roboflow's exports, with a category above all others."""
    for split, folder in (("train", "train"), ("val", "valid")):
        write_images(root / folder, split)
        content = coco_content(split)
        for category in content["categories"]:
            category["supercategory"] = "animals"
        content["categories"].append({"id": 0, "name": "animals", "supercategory": "none"})
        (root / folder / "_annotations.coco.json").write_text(json.dumps(content))
    return root


def voc_xml(name, width, height, objects):
    """The annotations of one image; pixels count from 1 and a box includes its last pixel."""
    entries = "".join(
        f"<object><name>{label}</name><difficult>{int(crowd)}</difficult><bndbox><xmin>{left + 1}</xmin>"
        f"<ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
        for label, left, top, right, bottom, crowd in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}.jpg</filename>{size}{entries}</annotation>"


def write_voc(root, splits=True):
    """Pascal VOC's layout; without ``splits`` no file says which images are for validation."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, images in SPLITS.items():
        write_images(root / "JPEGImages", split)
        for name, image in images.items():
            (root / "Annotations" / f"{name}.xml").write_text(voc_xml(name, *image))
        if splits:
            (root / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"{name}\n" for name in images))
    return root


def write_yolo(root, layout="images/{}", names=CLASSES):
    """YOLO's text files; crowds cannot be said in them."""
    for split, images in SPLITS.items():
        folder = root / layout.format(split)
        write_images(folder, split)
        labels = root / layout.format(split).replace("images", "labels")
        labels.mkdir(parents=True)
        for name, (width, height, objects) in images.items():
            lines = [
                f"{CLASSES.index(label)} {(left + right) / 2 / width:.6f} {(top + bottom) / 2 / height:.6f} "
                f"{(right - left) / width:.6f} {(bottom - top) / height:.6f}\n"
                for label, left, top, right, bottom, _ in objects
            ]
            if lines:
                (labels / f"{name}.txt").write_text("".join(lines))
    if names is not None:
        (root / "data.yaml").write_text(yaml.safe_dump({"nc": len(names), "names": list(names)}))
    return root


def found_in(source, crowds=True):
    """What a source holds, in the form of SPLITS; without ``crowds`` none is said to be one."""
    found = {}
    for place, (objects, size) in enumerate(zip(source.objects, source.sizes.tolist(), strict=True)):
        name = source.names[int(source.places[place])].rpartition("/")[2].partition(".")[0]
        rows = zip(objects.boxes.tolist(), objects.labels.tolist(), objects.crowd.tolist(), strict=True)
        assert list(objects.size) == size
        found[name] = (
            size[1],
            size[0],
            [
                (source.classes[label], *(round(edge, 2) for edge in box), crowd and crowds)
                for box, label, crowd in rows
            ],
        )
    return found


def expected(split, crowds=True):
    """SPLITS of a split, without crowds where the layout has none."""
    return {
        name: (width, height, [(*one[:5], one[5] and crowds) for one in objects])
        for name, (width, height, objects) in SPLITS[split].items()
    }
