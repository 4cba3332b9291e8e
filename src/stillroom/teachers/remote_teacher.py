"""Remote teacher: a model behind a server of the Open Inference Protocol v2, asked over HTTP at most once per image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor

from stillroom.batch import Batch, Output
from stillroom.errors import InputError, Stopped
from stillroom.extras import require
from stillroom.files import shown
from stillroom.formatting import counted
from stillroom.input_format import InputFormat, InputTransform
from stillroom.runtime.signals import stop_requests
from stillroom.setting_groups import RemoteOptions
from stillroom.teachers.inference_client import HEALTH, InferenceClient, read_api_key
from stillroom.teachers.inference_protocol import (
    BINARY,
    JSON_LENGTH,
    ModelMetadata,
    ProtocolError,
    decode_response,
    encode_request,
    parse_address,
    parse_metadata,
    version_of,
)
from stillroom.teachers.model_signature import image_input, prediction_outputs
from stillroom.teachers.prediction_store import PredictionStore, image_keys
from stillroom.teachers.raw_predictions import RawPredictions
from stillroom.teachers.teacher import Offer

_POLL_SECONDS = 0.1


class RemoteTeacher:
    """A teacher behind a server.

    Every prediction is stored in the bank folder before it is used, by the image's content. So no image is sent twice:
    not within a batch, not in a later epoch without augmentation, not by a later run, and not after a kill.

    Args:
        url: ``http(s)://HOST/v2/models/NAME`` with or without ``/versions/VERSION``.
        input_format: mean, std, size and interpolation of the images.
        folder: the bank folder.
        limit_bytes: largest total size of that folder.
        options: batches, timeouts, budget, API key.
        device: of the run; images are resized and normalised there.
        offers: what the outputs hold.
        classes: names of the teacher's classes, or None.
        output_names: outputs to use; empty to choose by type and shape.
        backoff: the first and the longest pause between two attempts in seconds.
        say: called with each message for the user, always from the thread that calls this object.

    Raises:
        InputError: a package is missing; the address or the API key cannot be used; the server is out of reach,
            refuses, or does not follow the protocol; the model's inputs or outputs do not fit; or its version is
            unknown.
    """

    def __init__(
        self,
        url: str,
        *,
        input_format: InputFormat,
        folder: Path,
        limit_bytes: int,
        options: RemoteOptions,
        device: torch.device | str = "cpu",
        offers: Offer = "logits",
        classes: Sequence[str] | None = None,
        output_names: Sequence[str] = (),
        backoff: tuple[float, float] = (0.5, 30.0),
        say: Callable[[str], None] = print,
    ) -> None:
        self.address = parse_address(url)
        self._source = source = f"teacher={self.address}"
        require(source, "remote")
        self.options, self.offers, self.bank_seconds, self._say = options, offers, 0.0, say
        self._messages: SimpleQueue[str] = SimpleQueue()
        with ExitStack() as resources:
            self._client = self._connect(backoff)
            resources.callback(self._client.close)
            self._threads = ThreadPoolExecutor(options.teacher_concurrency, "stillroom-remote-teacher")
            resources.callback(self._threads.shutdown)
            metadata = self._metadata()
            self._input = image_input(metadata.inputs, len(input_format.mean), source)
            self.input_format = self._input.agree(input_format, source)
            self._transform = InputTransform(self.input_format, torch.device(device))
            self._outputs = [spec.name for spec in prediction_outputs(metadata.outputs, offers, output_names, source)]
            self.identity = (
                f"server {self.address.name} version {self._version(metadata)} {options.teacher_identity or ''} "
                f"{metadata.digest} {offers} {self._outputs} {self.input_format!r}"
            )
            self._store = PredictionStore(folder, self.identity, limit_bytes=limit_bytes, say=self._messages.put)
            resources.callback(self._store.close)
            self._predictions = RawPredictions(offers, classes, self._trial(device), source, say)
            self.classes, self.class_count = self._predictions.classes, self._predictions.class_count
            self._resources = resources.pop_all()

    def predict(self, batch: Batch) -> Output:
        """Logits of ``batch.pixels``, and of ``batch.strong_pixels`` where they are given.

        Raises:
            InputError: the query budget is spent, or the server refuses or does not come back.
            Stopped: the user asked to stop while the server was unavailable.
        """
        assert batch.pixels is not None
        if batch.stand_in:
            zeros = torch.zeros(len(batch.pixels), self.class_count, device=batch.pixels.device)
            return Output(zeros, {} if batch.strong_pixels is None else {"logits_strong": zeros})
        views = [batch.pixels] if batch.strong_pixels is None else [batch.pixels, batch.strong_pixels]
        rows = [self._rows(pixels, training=batch.epoch > 0) for pixels in views]
        logits = [self._predictions.logits(self._outputs_of(part)).to(batch.pixels.device) for part in rows]
        return Output(logits[0], {"logits_strong": logits[1]} if len(logits) == 2 else {})

    def close(self) -> None:
        """Close the connections and the store."""
        self._client.cancelled.set()
        self._resources.close()

    def _connect(self, backoff: tuple[float, float]) -> InferenceClient:
        key = read_api_key(self.options.teacher_api_key_env)
        if key is not None and self.address.exposed:
            self._say(
                f"warning: {self._source} gets the API key without encryption; use https:// outside a trusted network"
            )
        return InferenceClient(
            self.address,
            key=key,
            timeout=self.options.teacher_timeout,
            patience=self.options.teacher_patience,
            connections=self.options.teacher_concurrency,
            backoff=backoff,
            say=self._messages.put,
        )

    def _metadata(self) -> ModelMetadata:
        """The metadata of the model, once the server is ready."""
        with self._stoppable():
            question = self._threads.submit(self._ask)
            self._gather([question])
        server, body = question.result()
        extensions = server.get("extensions") if isinstance(server, dict) else None
        self._binary = isinstance(extensions, list) and BINARY in extensions
        try:
            return parse_metadata(body)
        except ProtocolError as error:
            raise InputError(f"{self._source}: {error}") from error

    def _ask(self) -> tuple[Any, Any]:
        """The metadata of server and model. Runs in a thread of its own."""
        self._client.get_json(HEALTH, optional=True)
        server = self._client.get_json("/v2", optional=True)
        self._client.get_json(f"{self.address.path}/ready", optional=True)
        return server, self._client.get_json(self.address.path)

    def _version(self, metadata: ModelMetadata) -> str | None:
        self.version = version_of(self.address, metadata)
        if self.version is None and not self.options.teacher_identity:
            raise InputError(
                f"{self._source}: the server names no version of the model, so predictions of another model could be "
                "taken for this one's later; give teacher_identity=TEXT, such as the date of the model, and another "
                "text when the model is replaced"
            )
        return self.version

    def _trial(self, device: torch.device | str) -> list[Tensor]:
        """The outputs for a blank image, which show that everything fits before a run begins."""
        height, width = self.input_format.size or (224, 224)
        blank = torch.zeros(1, len(self.input_format.mean), height, width, dtype=torch.uint8, device=device)
        return self._outputs_of(self._rows(blank))

    def _rows(self, pixels: Tensor, *, training: bool = False) -> Tensor:
        """The stored form of the predictions, float32 (B, values), from the store or from the server."""
        begin = time.perf_counter()
        keys = image_keys(pixels)
        rows = self._store.read(list(dict.fromkeys(keys)))
        places = {key: place for place, key in reversed(list(enumerate(keys))) if key not in rows}  # the first of each
        missing = sorted(places.values())
        if missing:
            self._reserve(len(missing))
            step = self._input.batch or self.options.teacher_batch_size
            images = self._transform(pixels[missing]).cpu()
            with self._stoppable():
                tasks = [
                    self._threads.submit(
                        self._fetch, images[i : i + step], [keys[place] for place in missing[i : i + step]]
                    )
                    for i in range(0, len(missing), step)
                ]
                self._gather(tasks)
            fetched = torch.cat([task.result() for task in tasks])
            rows.update((keys[place], row) for place, row in zip(missing, fetched, strict=True))
            if training and self._store.storing:
                self.bank_seconds += time.perf_counter() - begin
        self._say_all()
        return torch.stack([rows[key] for key in keys])

    def _outputs_of(self, rows: Tensor) -> list[Tensor]:
        """The outputs that :meth:`_fetch` put side by side into rows."""
        return list(rows.view(len(rows), len(self._outputs), -1).unbind(1))

    def _fetch(self, images: Tensor, keys: list[bytes]) -> Tensor:
        """Request predictions and store them. Runs in a thread of its own."""
        count, fixed = len(images), self._input.batch
        if fixed is not None and count < fixed:
            images = torch.cat([images, images[-1:].expand(fixed - count, -1, -1, -1)])
        prepared = self._input.arrange(images)
        headers, body = encode_request(self._input.name, prepared, self._outputs, binary=self._binary)
        response = self._client.send("POST", f"{self.address.path}/infer", headers, body)
        assert response is not None
        try:
            outputs, version = decode_response(
                response.data, response.headers.get(JSON_LENGTH), self._outputs, len(images)
            )
            rows = torch.stack([output.reshape(len(images), -1).float() for output in outputs], 1).flatten(1)[:count]
        except (ProtocolError, RuntimeError) as error:
            raise InputError(f"{self._source}: {error}") from error
        if self.version is not None and version not in (None, self.version):
            raise InputError(
                f"{self._source} now predicts with version {version}, and this run began with version {self.version}; "
                f"add /versions/{self.version} to the address if the server still has it"
            )
        self._store.write(keys, rows)
        return rows

    def _reserve(self, images: int) -> None:
        """Count images before they are sent.

        Raises:
            InputError: the budget does not allow them; none is sent.
        """
        budget = self.options.teacher_query_budget
        if not self._store.reserve(images, budget):
            sent, place = counted(self._store.sent, "image"), shown(self._store.path)
            raise InputError(
                f"teacher_query_budget={budget}: {sent} were sent to {self._source} before, and this batch requires "
                f"{images} more. All predictions are stored in {place}: raise teacher_query_budget and run the same "
                "command again to go on"
            )

    def _gather(self, tasks: Sequence[Future[Any]]) -> None:
        """Wait for requests. If one fails, drop those that have not begun and let the others end and be stored."""
        try:
            pending = set(tasks)
            while pending and not any(task.done() and task.exception() for task in tasks):
                pending = wait(pending, _POLL_SECONDS, FIRST_EXCEPTION).not_done
                self._say_all()
        finally:
            self._client.cancelled.set()
            unstarted = [task for task in tasks if task.cancel()]
            wait(set(tasks).difference(unstarted))
            self._client.cancelled.clear()
            self._say_all()
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
        for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):  # the cause before its consequences
            raise error

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        """Let a request to stop the run end a wait for the server."""
        with stop_requests() as request:
            self._client.stop = request
            yield

    def _say_all(self) -> None:
        """Show the messages of the threads."""
        while not self._messages.empty():
            self._say(self._messages.get())
