"""Average precision of a detector on the validation images of a data set."""

from __future__ import annotations

from dataclasses import replace

from stillroom.config import DataOptions
from stillroom.data import DataSet
from stillroom.data.decoding_workers import worker_count
from stillroom.models.borrowed import borrowed
from stillroom.prepare.measured_model import MeasuredModel
from stillroom.runtime.device import Machine
from stillroom.tasks.average_precision import AveragePrecision, average_precision
from stillroom.tasks.detection import Detection, objects_of
from stillroom.tasks.region_step import input_statistics


def evaluate_detector(
    model: MeasuredModel, data: DataSet, options: DataOptions, machine: Machine, batch_size: int
) -> AveragePrecision:
    """Measure a detector.

    Images are normalised as the detector's own transform does, unless the settings give mean and std.

    Args:
        model: the detector.
        data: images with boxes.
        options: of the data.
        machine: where it computes.
        batch_size: images a step.

    Raises:
        InputError: the model cannot be built or is no detector for these classes.
    """
    network = model.build(data)
    if options.mean is None:
        mean, std = input_statistics(network)
        data = replace(data, mean=mean, std=std)
    loader = data.val.loader(
        batch_size=batch_size, input_format=data.input_format, shuffle=False, device=machine.device,
        workers=worker_count(options.workers),
    )  # fmt: skip
    task = Detection(len(data.train.classes))
    with borrowed(model.module):
        found = task.predict(network.to(machine.device), loader.epoch(0), machine.autocast())
    return average_precision(objects_of(data.val), found, task.classes)
