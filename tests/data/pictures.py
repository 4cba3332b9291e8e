import io

import numpy as np


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def as_array(image):
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)
