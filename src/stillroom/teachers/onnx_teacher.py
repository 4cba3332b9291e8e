"""ONNX teacher: a model in an ONNX file, run by onnxruntime on the CPU or on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.errors import InputError, first_line
from stillroom.extras import require
from stillroom.files import shown
from stillroom.input_format import InputFormat, InputTransform
from stillroom.models.onnx_file import onnx_digest, open_session
from stillroom.reading import UnreadableError, parse_json
from stillroom.teachers.model_signature import TensorSpec, image_input, prediction_outputs
from stillroom.teachers.raw_predictions import RawPredictions
from stillroom.teachers.teacher import Offer

_TYPES = {
    "tensor(float16)": torch.float16,
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
    "tensor(int8)": torch.int8,
    "tensor(uint8)": torch.uint8,
    "tensor(int16)": torch.int16,
    "tensor(int32)": torch.int32,
    "tensor(int64)": torch.int64,
}


class OnnxTeacher:
    """A teacher in an ONNX file.

    The file needs one floating-point input, (batch, channels, height, width) or (batch, height, width, channels). A
    fixed batch size is served by splitting and padding batches. A fixed image size becomes the input format's. On the
    CPU, onnxruntime uses as many threads as PyTorch.

    Args:
        path: the file.
        input_format: mean, std, size and interpolation of the images; None for those that Stillroom's own export
            recorded in the file.
        device: of the run. onnxruntime uses a CUDA device if it was built for it, and the CPU otherwise.
        offers: what the outputs hold.
        classes: names of the teacher's classes; None for those that Stillroom's own export recorded, if any.
        output_names: outputs to use; empty to choose by type and shape.
        say: called with each message for the user.

    Raises:
        InputError: a package is missing; the file cannot be read or run; its input or outputs do not fit; or the input
            format, the number of classes or the names of the classes are unknown or do not fit the file.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        input_format: InputFormat | None = None,
        device: torch.device | str = "cpu",
        offers: Offer = "logits",
        classes: Sequence[str] | None = None,
        output_names: Sequence[str] = (),
        say: Callable[[str], None] = print,
    ) -> None:
        require(f"teacher={path}", "onnx")
        self.path, self.offers, self.bank_seconds = Path(path), offers, 0.0
        digest = onnx_digest(self.path)
        self._source = source = f"teacher={shown(path)}"
        self._session = self._open(torch.device(device), say)
        facts = _recorded(self._session, self.path)
        if facts.get("task") == "detection":
            raise InputError(f"{source} is a detector, which gives no logits; give its run folder, or a classifier")
        input_format = input_format or _recorded_format(facts)
        if input_format is None:
            raise InputError(
                f"{source} does not say how its images are normalised; give teacher_mean= and teacher_std="
            )
        specs = [_spec(node) for node in self._session.get_inputs()]
        self._input = image_input(specs, len(input_format.mean), source)
        self.input_format = self._input.agree(input_format, source)
        outputs = [_spec(node) for node in self._session.get_outputs()]
        self._outputs = prediction_outputs(outputs, offers, output_names, source)
        on_gpu = self._session.get_providers()[0] == "CUDAExecutionProvider"
        self._place = torch.device(device) if on_gpu else torch.device("cpu")
        self._transform = InputTransform(self.input_format, self._place)
        self._predictions = RawPredictions(offers, classes or facts.get("classes"), self._trial(), source, say)
        self.classes, self.class_count = self._predictions.classes, self._predictions.class_count
        names = [spec.name for spec in self._outputs]
        self.identity = f"onnx {digest} {offers} {names} {self.class_count} classes, {self.input_format!r}"

    def predict(self, batch: Batch) -> Output:
        """Logits of ``batch.pixels``, and of ``batch.strong_pixels`` where they are given."""
        assert batch.pixels is not None
        parts = {} if batch.strong_pixels is None else {"logits_strong": self._logits(batch.strong_pixels)}
        return Output(self._logits(batch.pixels), parts)

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def _open(self, device: torch.device, say: Callable[[str], None]) -> Any:
        try:
            session = open_session(self.path, torch.get_num_threads(), device)
        except Exception as error:  # its errors have no other common class
            raise InputError(f"{self._source}: onnxruntime cannot open the file ({first_line(error)})") from error
        if device.type == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
            say(
                f"warning: {self._source} runs on the CPU, because onnxruntime finds no CUDA; install onnxruntime-gpu "
                "in the place of onnxruntime"
            )
        return session

    def _logits(self, pixels: Tensor) -> Tensor:
        images = self._transform(pixels.to(self._place))
        step = self._input.batch or len(images)
        parts = [self._run(images[start : start + step]) for start in range(0, len(images), step)]
        outputs = [torch.cat(values) for values in zip(*parts, strict=True)]
        return self._predictions.logits(outputs).to(pixels.device)

    def _run(self, images: Tensor) -> list[Tensor]:
        """The outputs for at most as many images as the file takes at once."""
        count, fixed = len(images), self._input.batch
        if fixed is not None and count < fixed:
            images = torch.cat([images, images[-1:].expand(fixed - count, -1, -1, -1)])
        images = self._input.arrange(images)
        binding = self._session.io_binding()
        self._bind(binding.bind_input, self._input.name, images)
        outputs = [torch.empty((len(images), *sides), dtype=kind, device=self._place) for sides, kind in self._shapes]
        for spec, output in zip(self._outputs, outputs, strict=True):
            self._bind(binding.bind_output, spec.name, output)
        if self._place.type == "cuda":
            torch.cuda.current_stream(self._place).synchronize()  # onnxruntime reads the images on its own stream
        self._session.run_with_iobinding(binding)
        return [output[:count] for output in outputs]

    def _bind(self, bind: Callable[..., None], name: str, tensor: Tensor) -> None:
        """Let onnxruntime read or write a tensor's memory, on the CPU or a GPU alike."""
        numpy_type = torch.empty(0, dtype=tensor.dtype).numpy().dtype
        bind(name, self._place.type, self._place.index or 0, numpy_type, tuple(tensor.shape), tensor.data_ptr())

    def _trial(self) -> list[Tensor]:
        """The outputs for one blank image, or as many as the file takes at once; their shapes are kept."""
        height, width = self.input_format.size or (224, 224)
        blank = torch.zeros(self._input.batch or 1, len(self.input_format.mean), height, width)
        feed = {self._input.name: self._input.arrange(blank).numpy()}
        try:
            found = self._session.run([spec.name for spec in self._outputs], feed)
        except Exception as error:  # its errors have no other common class
            raise InputError(
                f"{self._source}: onnxruntime cannot run it on an image of {width}x{height} pixels "
                f"({first_line(error)}); give the size that it takes as teacher_image_size="
            ) from error
        outputs = [torch.from_numpy(values) for values in found]
        self._shapes = [(output.shape[1:], output.dtype) for output in outputs]
        return outputs


def _spec(node: Any) -> TensorSpec:
    shape = tuple(side if isinstance(side, int) else None for side in node.shape or ())
    return TensorSpec(node.name, _TYPES.get(node.type), shape)


def _recorded(session: Any, path: Path) -> dict[str, Any]:
    """What Stillroom's export recorded in the file (:mod:`stillroom.export.onnx_graph`); empty in other files."""
    text = session.get_modelmeta().custom_metadata_map.get("stillroom", "{}")
    try:
        facts = parse_json(text, path)
    except UnreadableError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _recorded_format(facts: dict[str, Any]) -> InputFormat | None:
    try:
        return InputFormat(tuple(map(float, facts["mean"])), tuple(map(float, facts["std"])))
    except (KeyError, TypeError, ValueError):
        return None
