"""Reading back what the views draw."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

PREFIX = "data:image/png;base64,"


def read_png(uri, mode="RGB"):
    assert uri.startswith(PREFIX)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri[len(PREFIX) :]))).convert(mode))
