"""The settings of the optimizer: learning rate, schedule and fine-tuning.

Nothing here imports PyTorch: ``stillroom --help`` must not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stillroom.defaults import Schedule
from stillroom.settings import described, setting


@described
@dataclass(frozen=True, kw_only=True)
class OptimOptions:
    """Optimizer, learning rate, fine-tuning and batch-norm momentum."""

    optimizer: str = setting(
        "sgd (the published recipes), adamw, dot or deepkd (for distillation: a momentum for each gradient stream), or "
        "the name of an optimizer of timm.optim, such as lamb or lion (stillroom list optimizers)",
        "sgd")  # fmt: skip
    lr: float | None = setting(
        "peak learning rate. Default: 0.001 for adamw; for sgd, dot and deepkd 0.05, or 0.01 for a MobileNet, "
        "ShuffleNet, EfficientNet, MNASNet or detector, recognised by the name of the model, function or class, or by "
        "what its run folder trained; twice that for sgd with onecycle; for others the optimizer's own",
        None, above=0)  # fmt: skip
    weight_decay: float | None = setting(
        "weight decay. Default: 0.0005 for sgd, dot and deepkd, 0.05 for adamw; for others the optimizer's own",
        None, at_least=0)  # fmt: skip
    no_decay_norms: bool = setting(
        "no weight decay on norms and biases (parameters of one dimension), nor on what a timm model itself exempts",
        False)  # fmt: skip
    momentum: float = setting("momentum of sgd, and of any other optimizer that has one", 0.9, at_least=0, below=1)
    delta: float | list[float] | None = setting(
        "differences of the streams' momenta from momentum. dot: one number, added for the teacher and subtracted for "
        "the task. deepkd: three numbers, added for task, target and non-target. Default: 0.075; [0.075, -0.075, 0.05]",
        None)  # fmt: skip
    deepkd_as_coded: bool = setting(
        "deepkd as in its public code, which differs from its paper: the task has the target's momentum, and the "
        "weight decay enters the target's stream. For exact reproduction only",
        False)  # fmt: skip
    nesterov: bool | None = setting(
        "Nesterov momentum for sgd. Default: true for sgd with schedule=onecycle, otherwise false", None
    )
    schedule: Schedule | None = setting(
        "learning-rate schedule: milestones (steps down), cosine, onecycle (up and down, without cycling momentum) or "
        "constant. Default: onecycle for sgd, or milestones if milestones, gamma or unfinished_warmup is given; "
        "milestones for dot and deepkd; cosine for any other optimizer",
        None)  # fmt: skip
    milestones: list[int] | None = setting(
        "epochs after which the learning rate falls. Default: 5/8, 6/8 and 7/8 of the epochs (150, 180, 210 of 240), "
        "each once and none at the end (4, 5 of 6)",
        None, at_least=0)  # fmt: skip
    gamma: float = setting("factor on the learning rate at each milestone", 0.1, above=0, at_most=1)
    warmup_epochs: int = setting(
        "epochs of linear learning-rate warm-up: epoch by epoch with milestones (as published: the first of k epochs "
        "has 1/k of the learning rate), step by step with any other schedule. With onecycle, the epochs in which the "
        "learning rate rises; 0 is 0.3 of all",
        0, at_least=0)  # fmt: skip
    unfinished_warmup: bool = setting(
        "keep the learning rate of the last but one warm-up epoch until the first milestone, as the published LDRLD "
        "code does by accident (0.95 of the peak after 20 epochs). For exact reproduction only",
        False)  # fmt: skip
    clip_grad_norm: float | None = setting(
        "largest norm of a step's gradient over all parameters; a larger gradient is scaled down. Default: no limit",
        None, above=0)  # fmt: skip
    ema: float | None = setting(
        "decay of an exponential moving average of the trained model's weights, for example 0.999. It starts smaller, "
        "so that the initial weights soon count for nothing. Default: no average",
        None, above=0, below=1)  # fmt: skip
    ema_export: bool = setting(
        "with ema, validate and export the averaged weights; false validates and exports the trained weights, and "
        "records the accuracy of the averaged ones beside",
        True)  # fmt: skip
    freeze: list[str] | None = setting(
        "parts of the trained model that keep their weights and statistics for the whole run: names of its submodules, "
        "with * and ? for several, such as [conv1, layer1*]. Default: none",
        None)  # fmt: skip
    freeze_epochs: int = setting(
        "train only the head (the last layer) in the first k epochs. The rest of the trained model is frozen, with its "
        "batch-norm statistics. As many as epochs make a linear probe",
        0, at_least=0)  # fmt: skip
    freeze_norms: bool = setting(
        "keep the running statistics of the trained model's batch norms, and normalise with them in every epoch: for a "
        "pretrained network and few images",
        False)  # fmt: skip
    backbone_lr_factor: float = setting(
        "factor on the learning rate of all layers of the trained model but its head", 1.0, above=0, at_most=1
    )
    layer_decay: float = setting(
        "factor on the learning rate from each layer of the trained model to the one before it; the head has the full "
        "learning rate. For timm models",
        1.0, above=0, at_most=1)  # fmt: skip
    label_smoothing: float = setting(
        "fraction of the label that the cross-entropy spreads evenly over all classes", 0.0, at_least=0, below=1
    )
    class_weights: Literal["none", "balanced"] = setting(
        "factors on the cross-entropy of an image, by its class: balanced gives every class the same weight in total, "
        "and images 1 on average",
        "none")  # fmt: skip
    bn_momentum: float | None = setting(
        "weight of a new batch in the running statistics of the student's batch norms. Default: as the model was built "
        "(mostly 0.1; torchvision's MobileNetV3 has 0.01, too slow for a short run)",
        None, above=0, at_most=1)  # fmt: skip
