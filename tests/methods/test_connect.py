"""Joining methods to pairs of models: the same architecture, another one, a transformer."""

from __future__ import annotations

import pytest
import torch

from stillroom.batch import Batch, Output
from stillroom.errors import InputError
from stillroom.methods import PRESETS, parse_method
from stillroom.methods.connect import Joint, TeacherSide, connect
from stillroom.models import build_model
from stillroom.models.model_parts import PartsReader
from stillroom.models.output import logits_of

CLASSES = 10
LABELS = torch.arange(40) % CLASSES

# Paths through a method that its name alone does not take.
SHORT = {
    "ft": "ft(initial_epochs=1)", "ab": "ab(initial_epochs=1)", "crd": "crd(negatives=8)",
    "embed_queue": "embed_queue(size=6)",  # always the one batch, so that the queue does not change the loss
}  # fmt: skip
COMPOSED = (
    "kd + at", "0.8*crd(negatives=8) + kd", "standardized(ldrld) + reviewkd", "sdd(kd)", "sdd(dkd)", "sdd(nkd)",
    "sdd(ldrld)", "sdd(standardized(kd))", "standardized(ctkd)",
)  # fmt: skip
EVERY = [*(SHORT.get(name, name) for name in PRESETS), *COMPOSED]


def batch(seed=0, size=32):
    generator = torch.Generator().manual_seed(seed)
    images, strong = torch.randn(2, 6, 3, size, size, generator=generator)
    ids = torch.randperm(40, generator=generator)[:6]
    return Batch(images, LABELS[ids], ids, strong)


def model(name, size=32):
    torch.manual_seed(3)
    return build_model(name, num_classes=CLASSES, image_size=size)


def train(method, student, teacher, epochs):
    """A few steps on one batch in each epoch; the losses of every epoch."""
    examples = batch()
    joint = connect(method, student, TeacherSide.like_student(teacher), examples, LABELS)
    student, views = joint.student, (joint.student_view, joint.teacher_view)
    readers = [
        None if view is None else PartsReader(net, view, method.parts_of(side))
        for net, view, side in zip((student, teacher), views, ("student", "teacher"), strict=True)
    ]
    trained = [*student.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(trained, lr=1e-3)
    teacher.eval()
    values = {}
    for epoch in epochs:
        for _ in range(16 if "crd" in method.text else 4):  # CRD's memories are random at first
            outputs = []
            for net, reader in zip((student, teacher), readers, strict=True):
                with torch.set_grad_enabled(net is student):
                    logits = logits_of(net(examples.images))
                    parts = {} if reader is None else reader.read()
                    if method.needs_strong:
                        parts["logits_strong"] = logits_of(net(examples.strong))
                outputs.append(Output(logits, parts))
            terms = method(*outputs, examples.labels, epoch, examples.ids)
            total = sum(terms.values())
            assert total.isfinite(), terms
            optimizer.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            values.setdefault(epoch, []).append(total.item())
    return values


@pytest.mark.parametrize("text", EVERY)
def test_every_method_lowers_its_loss_on_networks_of_one_family(text):
    pair = ("resnet8", "resnet14") if text == "fsp" else ("resnet8", "resnet8x4")
    values = train(parse_method(text), *(model(name) for name in pair), epochs=(1, 2))
    for epoch, losses in values.items():
        assert min(losses[1:]) < losses[0], epoch


def stages(method):
    """One epoch, or two for a method with an initial stage."""
    return range(1, method.initial_epochs + 2)


@pytest.mark.parametrize("text", EVERY)
def test_every_method_joins_networks_of_two_families(text):
    if text == "fsp":
        pytest.skip("fsp compares flow matrices, which have the networks' widths")
    method = parse_method(text)
    values = train(method, model("MobileNetV2"), model("ShuffleV2"), stages(method))
    assert all(min(losses[1:]) < losses[0] for losses in values.values())


# What a plain transformer cannot give is the map before a global average.
ON_TOKENS = [text for text in EVERY if not text.startswith(("sdd", "catkd", "simkd", "fsp"))]


@pytest.mark.parametrize("text", ON_TOKENS)
@pytest.mark.parametrize(("student", "teacher"), [("timm:test_vit", "resnet8"), ("resnet8", "timm:test_vit")])
def test_transformers_and_convolutions_teach_each_other(text, student, teacher):
    method = parse_method(text)
    values = train(method, model(student), model(teacher), stages(method))
    assert all(min(losses[1:]) < losses[0] for losses in values.values())


@pytest.mark.parametrize(
    ("text", "student", "says"),
    [
        (
            "at",
            "torchvision:vit_b_16",
            r"at needs student_maps, but VisionTransformer has no spatial maps.*ldrld or rkd",
        ),
        ("kd + sp", "torchvision:vit_b_16", r"sp needs student_features.*attribute stages"),
        ("sdd(kd)", "timm:test_vit", r"sdd_kd needs student_final_map, but VisionTransformer.*global average"),
        ("rkd", "torchvision:squeezenet1_1", r"rkd needs student_embedding.*one linear layer"),
        ("fsp", "MobileNetV2", r"method='fsp'.*same widths"),
        ("simkd", "timm:test_vit", r"method='simkd'.*student cannot share a classifier: VisionTransformer"),
    ],
)
def test_what_a_pair_cannot_do_is_one_clear_error(text, student, says):
    size = 64 if student.startswith("torchvision") else 32
    if student == "torchvision:vit_b_16":
        built = build_model(student, num_classes=CLASSES, image_size=64, in_channels=3)
    else:
        built = model(student, size)
    with pytest.raises(InputError, match=says) as caught:
        connect(parse_method(text), built, TeacherSide.like_student(model("resnet8", size)), batch(size=size), LABELS)
    assert "\n" not in str(caught.value)


def test_connecting_changes_neither_model():
    student, teacher = model("resnet8").train(), model("resnet8x4").train()
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (student, teacher)]
    connect(parse_method("at + crd(negatives=8) + fitnet"), student, TeacherSide.like_student(teacher), batch(), LABELS)
    assert student.training
    assert teacher.training
    for net, state in zip((student, teacher), before, strict=True):
        torch.testing.assert_close(net.state_dict(), state, rtol=0, atol=0)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def test_trying_a_method_leaves_its_memory_as_it_was():
    method = parse_method("crd(negatives=8)")
    torch.manual_seed(0)
    connect(method, model("resnet8"), TeacherSide.like_student(model("resnet8x4")), batch(), LABELS)
    first = {k: v.clone() for k, v in method.state_dict().items()}
    torch.manual_seed(0)
    connect(method, model("resnet8"), TeacherSide.like_student(model("resnet8x4")), batch(seed=1), LABELS)
    torch.testing.assert_close(method.state_dict(), first, rtol=0, atol=0, equal_nan=True)


def test_logit_methods_need_no_look_inside():
    class Opaque(torch.nn.Module):
        def forward(self, images):
            raise AssertionError("the model was run")

    student = Opaque()
    assert connect(parse_method("kd"), student, TeacherSide.like_student(Opaque()), batch(), LABELS) == Joint(
        student, None, None
    )


class Encoder(torch.nn.Module):
    """A teacher without a classifier: its output is the embedding."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(8)
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.ReLU())
        self.out = torch.nn.Linear(8, 24)

    def forward(self, images):
        return self.out(self.body(images).mean((2, 3)))


@pytest.mark.parametrize("text", ["0*ce + embed_cosine", "embed_mse", "0*ce + embed_queue(size=9)", "rkd"])
def test_a_teacher_without_a_classifier_teaches_embeddings(text):
    student, teacher, examples = model("resnet8"), Encoder().eval(), batch()
    method = parse_method(text)
    joint = connect(method, student, TeacherSide.like_student(teacher, headless=True), examples, LABELS)
    assert joint.student is student
    readers = [
        PartsReader(net, view, ("embedding",))
        for net, view in ((student, joint.student_view), (teacher, joint.teacher_view))
    ]
    before = set(student.state_dict())
    optimizer = torch.optim.Adam([*student.parameters(), *method.parameters()], 3e-3)
    values = []
    for _ in range(12):
        student_logits = student(examples.images)
        with torch.no_grad():
            embedding = teacher(examples.images)
        student_output = Output(student_logits, readers[0].read())
        terms = method(student_output, Output(embedding[:, :0], readers[1].read()), examples.labels)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
        values.append(sum(terms.values()).item())
    assert values[-1] < 0.8 * values[0]
    assert set(student.state_dict()) == before  # the projector is the method's
    assert any("projector" in name for name in method.state_dict()) == (text != "rkd")


@pytest.mark.parametrize(
    ("text", "part"), [("kd", "logits"), ("ldrld", "logits"), ("simkd", "classifier"), ("catkd", "classifier")]
)
def test_losses_on_logits_refuse_a_teacher_without_a_classifier(text, part):
    teacher = TeacherSide.like_student(Encoder(), headless=True)
    with pytest.raises(InputError, match=rf"{text} needs the teacher's {part}, but teacher Encoder has no classifier"):
        connect(parse_method(text), model("resnet8"), teacher, batch(), LABELS)
