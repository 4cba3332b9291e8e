"""Hash everything that an object contains; objects that cannot be compared are listed."""

from __future__ import annotations

import copyreg
import enum
import hashlib
import types
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Types whose repr is their whole value.
PLAIN = frozenset({bool, int, float, complex, str, bytes, range, type(None), type(Ellipsis), type(NotImplemented)})
PLAIN |= {torch.dtype, torch.layout, torch.memory_format}

Visit = Callable[["Walk", Any, str], None]


class Walk:
    """A walk over one or more objects that computes a hash.

    Objects are compared by their content, never by their address. An object that is met again is written as a reference
    to the first time, so cycles end, and two names for one tensor differ from two equal tensors.

    Args:
        visits: (type, rule) pairs for functions, classes, modules and other kinds; the first that fits is used. Other
            objects are taken apart as ``pickle`` does.
        values: whether the values of tensors and arrays count, or only their shapes and types.
        trained: whether it counts which tensors get a gradient.

    Attributes:
        opaque: where each object is that cannot be compared, and its type.
        left: these objects.
    """

    def __init__(self, visits: Sequence[tuple[Any, Visit]] = (), *, values: bool = True, trained: bool = True) -> None:
        self.visits, self.values, self.trained = visits, values, trained
        self.opaque: list[str] = []
        self.left: list[object] = []
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._kept: list[object] = []  # keeps visited objects alive, so that no id is reused

    @property
    def digest(self) -> str:
        """16 hexadecimal digits for everything visited so far."""
        return self._hash.hexdigest()[:16]

    @property
    def met(self) -> frozenset[int]:
        """The ``id`` of every visited object that can be met again."""
        return frozenset(self._seen)

    def put(self, *words: object) -> None:
        """Add values whose repr is their whole content."""
        self._hash.update(repr(words).encode() + b"\n")

    def put_bytes(self, content: Any) -> None:
        """Add raw memory, as a contiguous buffer."""
        self._hash.update(content)

    def leave(self, value: object, path: str) -> None:
        """List an object that cannot be compared; only its type counts."""
        kind = type(value)
        self.opaque.append(f"{path} ({kind.__name__})")
        self.left.append(value)
        self.put("opaque", kind.__module__, kind.__qualname__)

    def visit(self, value: Any, path: str) -> None:
        """Add an object and everything it holds.

        Args:
            value: anything.
            path: where it is, for readers.
        """
        if type(value) in PLAIN:
            self.put(type(value).__name__, value)
        elif type(value) in (tuple, torch.Size):
            self._sequence(value, path)
        elif id(value) in self._seen:
            self.put("again", self._seen[id(value)])
        else:
            self._seen[id(value)] = len(self._seen)
            self._kept.append(value)
            try:
                self._first_time(value, path)
            except Exception:  # noqa: BLE001  a user's object may raise anything when it is taken apart
                self.leave(value, path)

    def _first_time(self, value: Any, path: str) -> None:
        kind = type(value)
        if kind is list:
            self._sequence(value, path)
        elif kind in (dict, types.MappingProxyType):
            self.put("dict", len(value))
            for key, held in value.items():
                self.visit(key, path)
                self.visit(held, f"{path}[{key!r}]" if type(key) in PLAIN else path)
        elif kind in (set, frozenset):
            self.put(kind.__name__, *sorted(self._apart(held, path) for held in value))
        elif isinstance(value, Tensor):
            self._tensor(value)
        elif isinstance(value, np.ndarray | np.generic):
            self._array(value, path)
        elif isinstance(value, enum.Enum):
            self.put("enum", kind.__module__, kind.__qualname__, value.name)
            self.visit(value.value, path)
        elif isinstance(value, torch.device):
            self.put("device")  # the device does not change what is computed
        elif isinstance(value, weakref.ref):
            self.visit(value(), path)
        else:
            self._by_rule(value, path)

    def _by_rule(self, value: Any, path: str) -> None:
        for kind, visit in self.visits:
            if isinstance(value, kind):
                visit(self, value, path)
                return
        self.take_apart(value, path)

    def _sequence(self, values: Sequence[Any], path: str) -> None:
        self.put(type(values).__name__, len(values))
        for place, held in enumerate(values):
            self.visit(held, f"{path}[{place}]")

    def _apart(self, value: Any, path: str) -> str:
        """Return the digest of one member of a set, which has no order."""
        if type(value) in PLAIN:
            return repr((type(value).__name__, value))
        walk = Walk(self.visits, values=self.values, trained=self.trained)
        walk._seen, walk._kept = dict(self._seen), self._kept
        walk.visit(value, path)
        self.opaque += walk.opaque
        self.left += walk.left
        return walk.digest

    def _tensor(self, value: Tensor) -> None:
        self.put("tensor", str(value.dtype), tuple(value.shape), self.trained and value.requires_grad)
        if self.values and not value.is_meta:
            self.put_bytes(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)

    def _array(self, value: Any, path: str) -> None:
        self.put("array", str(value.dtype), value.shape)
        if value.dtype.hasobject:
            self.visit(value.tolist(), path)
        elif self.values:
            self.put_bytes(np.ascontiguousarray(value).tobytes())

    def take_apart(self, value: Any, path: str) -> None:
        """Add an object by the parts from which ``pickle`` would rebuild it."""
        reduce = copyreg.dispatch_table.get(type(value))
        pieces: Any = value.__reduce_ex__(4) if reduce is None else reduce(value)
        if isinstance(pieces, str):
            self.put("global", type(value).__module__, pieces)
            return
        make, arguments, state, items, pairs = (*pieces, None, None, None)[:5]
        self.put("object")
        self.visit(make, path)
        self.visit(arguments, path)
        slots: Any = None
        if type(state) is tuple and len(state) == 2 and isinstance(state[1], dict):
            state, slots = state
        for attributes in (state, slots):
            if isinstance(attributes, dict):
                self.attributes(attributes.items(), path)
            else:
                self.visit(attributes, path)
        for more in (items, pairs):
            self.visit(None if more is None else list(more), path)

    def attributes(self, attributes: Iterable[tuple[str, Any]], path: str) -> None:
        """Add attributes, whose order does not count."""
        held = sorted(attributes, key=lambda pair: str(pair[0]))
        self.put("attributes", *(name for name, _ in held))
        for name, value in held:
            self.visit(value, f"{path}.{name}")
