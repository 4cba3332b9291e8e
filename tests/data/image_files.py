import io

import numpy as np
import pytest

from stillroom.data import load_data
from stillroom.errors import InputError


def png(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def as_array(image):
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def refusal(root):
    """What is said about images that cannot be loaded: one line."""
    with pytest.raises(InputError) as caught:
        load_data(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)
