"""Features in the plane: each network's embedding of the same images, laid out by t-SNE.

The ten classes shown are the couples that the teacher confuses most, where networks differ most. All networks get the
same images. Each layout is rotated to match the first one, because t-SNE leaves the rotation open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stillroom.models.model_parts import PartsReader
from stillroom.models.output import evaluating
from stillroom.models.probe import probe_model
from stillroom.report.aggregate import Pair
from stillroom.report.views.class_relations import confusion_mass
from stillroom.report.views.view_models import (
    Network,
    StudentLogits,
    classes_of,
    labels_of,
    normalised,
    student_networks,
    teacher_logits,
    teacher_network,
)

MOST_CLASSES = 10
MOST_IMAGES = 300
PERPLEXITY = 30.0
ITERATIONS = 500  # twice as many take twice the time and lay the points out hardly better
NEIGHBOURS = 10
BATCH = 100


@dataclass(frozen=True)
class Layout:
    """One network's points.

    Attributes:
        points: (x, y) of each image, from -1 to 1 around their mean; empty where there is no embedding.
        neighbours: fraction of an image's ten nearest ones in the embedding that are of its class, averaged over
            the images, in [0, 1]; None where there is no embedding.
        text: the same in words, or why there are no points.
    """

    points: tuple[tuple[float, float], ...]
    neighbours: float | None
    text: str


@dataclass(frozen=True)
class Plane:
    """The same images in every network's layout.

    Attributes:
        classes: names of those shown.
        labels: of each image, a place in ``classes``.
        teacher: None where there is no teacher.
        students: method label -> layout.
    """

    classes: tuple[str, ...]
    labels: tuple[int, ...]
    teacher: Layout | None
    students: dict[str, Layout]


def plane_of(pair: Pair) -> Plane:
    """Lay out some validation images of a pair as each network sees them."""
    labels, classes, logits = labels_of(pair), classes_of(pair), teacher_logits(pair)
    students = StudentLogits(pair) if logits is None else {"teacher": logits}
    shown = confused_couples(confusion_mass(labels, None, students, len(classes)), labels)
    places = pick(labels, shown)
    of = torch.searchsorted(torch.tensor(shown), labels[places])
    towards: Tensor | None = None

    def layout(name: str, network: Network) -> Layout:
        nonlocal towards
        found, note = embeddings(network, places)
        if found is None:
            return Layout((), None, f"{name}: {note}.")
        points = in_the_plane(found, towards)
        towards = points if towards is None else towards
        near = same_class_neighbours(found, of)
        return Layout(
            points=tuple((round(x, 3), round(y, 3)) for x, y in points.tolist()),
            neighbours=round(near, 4),
            text=f"{name}: of an image's ten nearest in the embedding, {100 * near:.0f} % are of its own class.",
        )

    teacher = teacher_network(pair)
    first = None if teacher is None else layout("teacher", teacher)
    return Plane(
        classes=tuple(classes[c] for c in shown),
        labels=tuple(of.tolist()),
        teacher=first,
        students={method: layout(method, network) for method, network in student_networks(pair)},
    )


def confused_couples(mass: Tensor, labels: Tensor, most: int = MOST_CLASSES) -> list[int]:
    """Choose classes in couples, the most confused one first, each class once.

    Args:
        mass: (C, C), row c the mean probabilities that images of class c give to each class.
        labels: (N,) of the images; classes without any are left out.
        most: how many classes to choose, an even number.

    Returns:
        The classes in rising order; all that have images where they are not more than asked for.
    """
    there = torch.bincount(labels, minlength=len(mass)).nonzero().flatten()
    names: list[int] = there.tolist()
    if len(names) <= most:
        return names
    both = (mass + mass.T)[there][:, there]
    rows, columns = torch.triu_indices(len(names), len(names), offset=1)
    chosen: list[int] = []
    for k in both[rows, columns].argsort(descending=True, stable=True).tolist():
        couple = [int(rows[k]), int(columns[k])]
        if not set(couple) & set(chosen):
            chosen += couple
        if len(chosen) >= most:
            break
    return [names[c] for c in sorted(chosen)]


def pick(labels: Tensor, classes: Sequence[int], most: int = MOST_IMAGES) -> Tensor:
    """The places of images of some classes, as many of each, evenly spread over the set, in rising order."""
    each = most // len(classes)
    chosen = []
    for c in classes:
        rows = (labels == c).nonzero().flatten()
        chosen.append(rows[torch.linspace(0, len(rows) - 1, min(each, len(rows))).long()])
    return torch.cat(chosen).sort().values


def embeddings(network: Network, places: Tensor) -> tuple[Tensor | None, str]:
    """The input of a network's last linear layer, (n, features), and an empty text; or None and the reason."""
    images, _ = normalised(network.data, places.tolist())
    model: nn.Module = network.model
    offers = probe_model(model, images[:2])
    note = offers.lacks("embedding")
    if note:
        return None, note
    reader = PartsReader(model, offers, ["embedding"])
    found = []
    try:
        with evaluating(model), torch.no_grad():
            for few in torch.split(images, BATCH):
                model(few)
                found.append(reader.read()["embedding"].flatten(1).float())
    finally:
        reader.close()
    return torch.cat(found), ""


def in_the_plane(embedding: Tensor, towards: Tensor | None = None) -> Tensor:
    """Lay out points so that near ones stay near: t-SNE, begun from the principal components.

    The same input gives the same output on one machine, whatever its number of threads.

    Args:
        embedding: (n, features), finite.
        towards: (n, 2), an earlier layout of the same images; the new one is turned and mirrored to lie as it does.

    Returns:
        (n, 2) float64 around 0, the largest coordinate 1; all 0 for fewer than four points or equal ones.

    Reference:
        van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008.
    """
    from scipy.linalg import orthogonal_procrustes
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    count = len(embedding)
    spread = embedding - embedding.mean(0)
    if count < 4 or not spread.any():
        return torch.zeros(count, 2, dtype=torch.float64)
    perplexity = min(PERPLEXITY, (count - 1) / 3)
    with threadpool_limits(1):  # sums in another order end in another layout
        method = TSNE(n_components=2, perplexity=perplexity, init="pca", max_iter=ITERATIONS, random_state=0)
        points = torch.from_numpy(method.fit_transform((spread / spread.abs().max()).numpy())).double()
        points = points - points.mean(0)
        if towards is not None:
            points = points @ torch.from_numpy(orthogonal_procrustes(points.numpy(), towards.numpy())[0])
    return points / points.abs().max()


def same_class_neighbours(embedding: Tensor, labels: Tensor, neighbours: int = NEIGHBOURS) -> float:
    """The mean fraction of each point's nearest ones that have its label, in [0, 1].

    Args:
        embedding: (n, features), n >= 2.
        labels: (n,).
        neighbours: how many nearest ones; at most n - 1 count.
    """
    distances = torch.cdist(embedding.double(), embedding.double()).fill_diagonal_(float("inf"))
    nearest = distances.topk(min(neighbours, len(labels) - 1), largest=False).indices
    return float((labels[nearest] == labels[:, None]).double().mean())
