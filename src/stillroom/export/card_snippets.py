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
        load = 'model, config = load(".")'
        if home.library == "function":
            module = home.name.partition(":")[0]
            load = f"# trust=True imports {module}, which builds the model: read it first.\n"
            load += 'model, config = load(".", trust=True)'
        elif home.library == "module":
            load = f'# MODULE: a {home.name} built as for the training.\nmodel, config = load(".", model=MODULE)'
        torch = _STILLROOM.format(load=load, image=image)
    return {"torch": torch, "onnx": _ONNX.format(image=image)}
