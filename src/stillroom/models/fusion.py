"""A faster copy of a network that is only asked for its logits."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node, Proxy, Tracer
from torch.fx.proxy import TraceError
from torch.nn import functional as F

from stillroom.models.fused_conv import ACTIVATIONS, FoldedConv, Norm
from stillroom.models.output import evaluating, logits_of

# Of the largest logit. Folding changes the rounding and nothing else: a few 1e-6 were measured.
TOLERANCE = 2e-5

_RELUS = {F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"}
_PASSED_THROUGH = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.AlphaDropout)
_ADDS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_COMPARISONS = {operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge}
_ABOUT_SHAPES = {getattr, operator.getitem, "dim", "size", *_COMPARISONS}


def frozen(model: nn.Module, example: Tensor) -> nn.Module:
    """A copy for inference that gives the same logits in less time, or the model itself where there is none.

    Batch norms are folded into the convolutions before them; in float32 on the CPU, a sum and an activation that follow
    are computed with the convolution. The copy shares every other weight with the model, which stays as it is. It is
    right for images of the example's size, in batches of any size, while the model's weights do not change.

    Args:
        model: any network, on its device and in its memory layout; it is traced in evaluation mode.
        example: (B, C, H, W) images as the network will get them, B >= 2; the copy's logits must agree on them
            within 2e-5 of the largest.

    Returns:
        The copy in evaluation mode, which maps images to whatever the model maps them to; the model itself if it has
        hooks, cannot be traced, holds nothing to fold, or if the copy's logits differ.
    """
    if any(_watched(module) for module in model.modules()):
        return model
    try:
        with evaluating(model), torch.no_grad():
            fast = _fold(model, example)
            return fast if fast is not None and _agree(model, fast, example) else model
    except Exception:  # noqa: BLE001 - whatever a model that cannot be traced raises: it still works as it is
        return model


class _Tracer(Tracer):
    """Looks into everything but torch's own layers, and decides by the example's channels and sides where code asks."""

    def __init__(self, example: Tensor) -> None:
        super().__init__()
        self._shape = example.shape

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - the base class's
        return type(m).__module__.startswith("torch.nn.") and not isinstance(m, (nn.Sequential, nn.ModuleList))

    def to_bool(self, obj: Proxy) -> bool:
        node = obj.node
        if node.target in _COMPARISONS and not node.kwargs:
            compare: Callable[[Any, Any], bool] = cast("Any", node.target)
            return compare(*(self._side(value) for value in node.args))
        raise TraceError(f"{node} is not known before the network runs")

    def _side(self, value: Any) -> int | float:
        """A number, or a side of the images that go into the network; never the size of the batch."""
        if isinstance(value, (int, float)):
            return value
        if isinstance(value, Node) and value.target is operator.getitem:
            shape, place = cast("tuple[Node, int]", value.args)
            asked = shape.target is getattr and shape.args[1] == "shape" and cast("Node", shape.args[0]).op
            if asked == "placeholder" and place in (-3, -2, -1, 1, 2, 3):
                return self._shape[place]
        raise TraceError(f"{value} is not known before the network runs")


def _watched(module: nn.Module) -> bool:
    """Whether something listens to a module or computes its weights, which a copy would lose."""
    return bool(module._forward_hooks or module._forward_pre_hooks or hasattr(module, "parametrizations"))


def _agree(model: nn.Module, fast: nn.Module, example: Tensor) -> bool:
    """Whether both say the same about a batch and about a single image."""
    for images in (example, example[:1]):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            wanted, got = logits_of(model(images)), logits_of(fast(images))
        if wanted.shape != got.shape or wanted.dtype != got.dtype:
            return False
        # Written so that NaN anywhere is a difference.
        if not bool((wanted - got).abs().max() <= TOLERANCE * wanted.abs().max()):
            return False
    return True


def _fold(model: nn.Module, example: Tensor) -> GraphModule | None:
    """The copy; None if there is nothing to gain."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    root = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})  # new modules, the same tensors
    graph = _Tracer(example).trace(root)
    fast = GraphModule(root, graph)
    _clear(fast)
    count = 0
    for node in list(graph.nodes):
        conv = _module(fast, node)
        if type(conv) is nn.Conv2d and conv.padding_mode == "zeros" and not isinstance(conv.padding, str):
            count += _absorb(fast, node, conv, f"_folded_{count}")
    if not count:
        return None
    _prune(graph)
    graph.lint()
    fast.delete_all_unused_submodules()
    fast.recompile()
    return fast.eval()


def _clear(fast: GraphModule) -> None:
    """Take out assertions about shapes and the layers that do nothing in evaluation mode."""
    graph = fast.graph
    for node in list(graph.nodes):
        if type(_module(fast, node)) in _PASSED_THROUGH:
            _replace(graph, node, cast("Node", node.args[0]))
        elif node.target is torch._assert:
            graph.erase_node(node)
    _prune(graph)


def _prune(graph: Graph) -> None:
    """Take out what nothing reads any more, where taking it out cannot change anything."""
    for node in reversed(list(graph.nodes)):
        if not node.users and (node.op == "get_attr" or node.target in _ABOUT_SHAPES):
            graph.erase_node(node)


def _absorb(fast: GraphModule, node: Node, conv: nn.Conv2d, name: str) -> bool:
    """Put a convolution and what follows it into one module; whether there was anything."""
    graph, chain = fast.graph, [node]
    norm = _norm_of(fast, _only_user(node), node)
    layer = FoldedConv(conv, norm)
    if norm is not None:
        _replace(graph, next(iter(node.users)), node)
    summand = _summand(_only_user(node), node)
    if summand is not None:
        chain += node.users
    layer.activation = _activation(fast, _only_user(chain[-1]))
    if layer.activation is not None:
        chain += chain[-1].users
    elif norm is not None:
        chain, summand = [node], None
    else:
        return False
    fast.add_submodule(name, layer)
    with graph.inserting_before(chain[-1]):
        new = graph.call_module(name, (node.args[0],) if summand is None else (node.args[0], summand))
    chain[-1].replace_all_uses_with(new)
    for old in reversed(chain):
        graph.erase_node(old)
    return True


def _only_user(node: Node) -> Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _module(fast: GraphModule, node: Node) -> nn.Module | None:
    return fast.get_submodule(cast("str", node.target)) if node.op == "call_module" else None


def _replace(graph: Graph, node: Node, source: Node) -> None:
    node.replace_all_uses_with(source)
    graph.erase_node(node)


def _activation(fast: GraphModule, node: Node | None) -> nn.Module | None:
    """A copy of the activation that a node computes; None if it is none that oneDNN knows."""
    if node is None:
        return None
    module = _module(fast, node)
    if node.target in _RELUS:
        return nn.ReLU(inplace=True)
    return copy.copy(module) if type(module) in ACTIVATIONS else None


def _summand(node: Node | None, conv: Node) -> Node | None:
    """What else a sum adds to the convolution; None if the node is no plain sum of it and another tensor."""
    if node is None or node.target not in _ADDS or len(node.args) != 2 or node.kwargs:
        return None
    left, right = node.args
    if not isinstance(left, Node) or not isinstance(right, Node) or left is right:
        return None
    in_place = node.target in (operator.iadd, "add_")
    if in_place and left is not conv:
        return None  # the other tensor is changed, and someone may look at it later
    return right if left is conv else left


def _norm_of(fast: GraphModule, node: Node | None, conv: Node) -> Norm | None:
    """The batch norm that a node applies to a convolution; None if it is none, or one without stored statistics."""
    if node is None:
        return None
    module = _module(fast, node)
    if type(module) is nn.BatchNorm2d:
        if module.running_mean is None or module.running_var is None:
            return None
        return Norm(module.running_mean, module.running_var, module.weight, module.bias, module.eps)
    if node.target is not F.batch_norm or node.args[:1] != (conv,):
        return None
    given = _arguments(node)
    tensors = [_constant(fast, given[name]) for name in ("running_mean", "running_var", "weight", "bias")]
    if given["training"] or tensors[0] is None or tensors[1] is None:
        return None
    return Norm(tensors[0], tensors[1], tensors[2], tensors[3], given["eps"])


def _arguments(node: Node) -> dict[str, Any]:
    """The arguments of a call of ``F.batch_norm`` by name."""
    defaults = {"weight": None, "bias": None, "training": False, "momentum": 0.1, "eps": 1e-5}
    names = ("input", "running_mean", "running_var", *defaults)
    return defaults | dict(zip(names, node.args, strict=False)) | node.kwargs


def _constant(fast: GraphModule, value: Any) -> Tensor | None:
    """The weight that a node reads; None for none. A computed value raises, and the model is left as it is."""
    if value is None:
        return None
    if not isinstance(value, Node) or value.op != "get_attr":
        raise TypeError(f"the batch norm computes {value}")
    read: Callable[[Any], Tensor] = operator.attrgetter(cast("str", value.target))
    return read(fast)
