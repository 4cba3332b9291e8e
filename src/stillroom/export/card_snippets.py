"""The Python snippets of a model card, which load the exported student."""

from __future__ import annotations

from typing import Any

from stillroom.export.exported_model import Architecture

_FITTED = """\
image = ImageOps.fit(image, (shape["width"], shape["height"]), Image.Resampling.BICUBIC)"""

_CROPPED = """\
short = round(shape["height"] / shape["crop_fraction"])
size = [int(short * side / min(image.size)) for side in image.size]
left, top = [round((long - shape["height"]) / 2) for long in size]
box = (left, top, left + shape["width"], top + shape["height"])
image = image.resize(size, Image.Resampling.BILINEAR).crop(box)"""

_IMAGE = """\
shape = config["input"]
image = Image.open("image.png").convert("{mode}")
{fitted}
pixels = np.asarray(image, dtype=np.float32).reshape(shape["height"], shape["width"], -1) / 255
images = ((pixels - np.float32(config["mean"])) / np.float32(config["std"])).transpose(2, 0, 1)[None]"""

_ALONE = """\
import json
from pathlib import Path

import numpy as np
import {library}
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

config = json.loads(Path("config.json").read_text(encoding="utf-8"))
model = {library}.{function}(config["architecture"], **config["arguments"])
model.load_state_dict(load_file("model.safetensors"))
model.eval()

{image}
with torch.inference_mode():
    logits = model(torch.from_numpy(images))
print(config["classes"][logits[0].argmax()])"""

_STILLROOM = """\
import numpy as np
import torch
from PIL import Image, ImageOps
from stillroom.export import load

{load}

{image}
with torch.inference_mode():
    logits = model(torch.from_numpy(images))
print(config["classes"][logits[0].argmax()])"""

_ONNX = """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

config = json.loads(Path("config.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])

{image}
(logits,) = session.run(["logits"], {{"images": images}})
print(config["classes"][logits[0].argmax()])"""

_OBJECTS = """\
for box, score, label in zip(boxes, scores, labels):
    print(config["classes"][int(label)], round(float(score), 2), box.tolist())"""

_PIXELS = """\
image = Image.open("image.png").convert("RGB")
pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255"""

_DETECTOR = """\
import numpy as np
import torch
from PIL import Image
from stillroom.export import load
from stillroom.export.detector_graph import WholeDetector

{load}
shape = config["input"]
detector = WholeDetector(model, shape["image_size"], shape["max_size"])

{pixels}
with torch.inference_mode():
    boxes, scores, labels = detector(torch.from_numpy(pixels))
{objects}"""

_DETECTOR_ONNX = """\
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

config = json.loads(Path("config.json").read_text(encoding="utf-8"))
session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])

{pixels}
boxes, scores, labels = session.run(["boxes", "scores", "labels"], {{"images": pixels}})
{objects}"""

_FUNCTIONS = {"timm": "create_model", "torchvision": "models.get_model"}


def code_snippets(home: Architecture, config: dict[str, Any]) -> dict[str, str]:
    """Snippets that name the class of ``image.png``, run in the folder of the export.

    Args:
        home: the library of the architecture.
        config: the export's ``config.json``.

    Returns:
        "torch" and "onnx" -> Python.
    """
    shape = config["input"]
    fitted = _CROPPED if shape.get("crop_fraction", 1) < 1 else _FITTED
    image = _IMAGE.format(mode="L" if shape["channels"] == 1 else "RGB", fitted=fitted)
    if home.arguments is not None:
        torch = _ALONE.format(library=home.library, function=_FUNCTIONS[home.library], image=image)
    else:
        torch = _STILLROOM.format(load=_load(home), image=image)
    return {"torch": torch, "onnx": _ONNX.format(image=image)}


def detector_snippets(home: Architecture) -> dict[str, str]:
    """Snippets that print the objects in ``image.png``, as :func:`code_snippets`."""
    text = {"pixels": _PIXELS, "objects": _OBJECTS}
    return {"torch": _DETECTOR.format(load=_load(home), **text), "onnx": _DETECTOR_ONNX.format(**text)}


def _load(home: Architecture) -> str:
    """The lines that load an export through Stillroom."""
    if home.library == "function":
        module = home.name.partition(":")[0]
        return (
            f"# trust=True imports {module}, which builds the model: read it first.\n"
            'model, config = load(".", trust=True)'
        )
    if home.library == "module":
        return f'# MODULE: a {home.name} built as for the training.\nmodel, config = load(".", model=MODULE)'
    return 'model, config = load(".")'
