"""Fingerprints of functions and classes: their bytecode, with the constants, globals and closures that it reads.

Bytecode is compared, not source: a source file may have been edited after the import, and comments do not matter.
"""

from __future__ import annotations

import dis
import functools
import os
import sys
import sysconfig
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from stillroom.fingerprint.walk import Visit, Walk

# Packages whose names are enough; their versions are in a run's environment.json.
TRUSTED = {"builtins", "stillroom", "torch", "torchvision", "timm", "numpy"}
STDLIB = tuple(f"{folder}{os.sep}" for folder in (Path(os.__file__).parent, sysconfig.get_path("platstdlib")))
# Attributes of a class that Python adds, or that only readers and type checkers use.
UNREAD = {
    "__dict__", "__weakref__", "__doc__", "__module__", "__qualname__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__conditional_annotations__", "__firstlineno__",
    "__static_attributes__", "__abstractmethods__", "_abc_impl", "__parameters__", "__orig_bases__",
    "__dataclass_params__", "__dataclass_fields__", "__match_args__", "__type_params__", "__slotnames__",
    "__protocol_attrs__", "__non_callable_proto_members__",
    "_backward_cls", "_autograd_function_id",  # numbered by torch in the order of definition
}  # fmt: skip
COMPILED = ("_torchdynamo_orig_callable", "py_func")  # where torch.compile and Numba store the original function
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # bytecode differs between versions


def is_installed(module: str) -> bool:
    """Whether a module belongs to Python or to an installed package, rather than to the user.

    Args:
        module: its dotted name.
    """
    top = module.partition(".")[0]
    if top in TRUSTED:
        return True
    if top == "__main__":  # the user's script
        return False
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    if top in sys.stdlib_module_names and (
        not file or file.startswith(STDLIB)
    ):  # a user's file may be called profile.py
        return True
    return any(f"{os.sep}{folder}{os.sep}" in file for folder in ("site-packages", "dist-packages"))


def code_digest(made: Callable[..., Any]) -> str:
    """Return the version of Python and 16 hexadecimal digits for the code of a function or class.

    Args:
        made: a function or class.
    """
    walk = Walk(CODE_VISITS)
    walk.visit(made, "")
    return f"{PYTHON} {walk.digest}"


def visit_function(walk: Walk, function: types.FunctionType, path: str) -> None:
    """Add a function: its closure, defaults, and its code if it is the user's."""
    home = str(function.__globals__.get("__name__", ""))
    if _visit_original(walk, function, path):
        return
    walk.put("function", home, function.__code__.co_qualname)
    if not is_installed(home):
        _visit_code(walk, function.__code__, path)
        _visit_globals(walk, function, path)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            held = cell.cell_contents
        except ValueError:
            walk.put("empty cell", name)
        else:
            walk.visit(held, f"{path}: {name}")
    walk.visit(function.__defaults__, path)
    walk.visit(function.__kwdefaults__, path)


def _visit_code(walk: Walk, code: types.CodeType, path: str) -> None:
    arguments = code.co_argcount + code.co_kwonlyargcount
    walk.put("code", PYTHON, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    walk.put(code.co_names, code.co_varnames[:arguments], code.co_freevars, code.co_cellvars)
    walk.put_bytes(code.co_code)
    walk.put_bytes(code.co_exceptiontable)
    walk.put(len(code.co_consts))
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            _visit_code(walk, constant, path)
        else:
            walk.visit(constant, path)


def _visit_globals(walk: Walk, function: types.FunctionType, path: str) -> None:
    """Add the globals that a function reads; of a user's module only the attributes that its code names."""
    codes = list(_nested(function.__code__))
    wanted = {
        step.argval for code in codes for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }  # fmt: skip
    mentioned = {name for code in codes for name in code.co_names}
    for name in sorted(wanted & function.__globals__.keys()):
        value = function.__globals__[name]
        walk.put("global", name)
        if isinstance(value, types.ModuleType) and not is_installed(value.__name__):
            own = {key: held for key, held in vars(value).items() if key in mentioned}
            walk.attributes(own.items(), value.__name__)
        else:
            walk.visit(value, f"{path}: {name}")


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _nested(constant)


def visit_class(walk: Walk, kind: type, path: str) -> None:
    """Add a class: its name, and if it is the user's its attributes and bases."""
    walk.put("class", kind.__module__, kind.__qualname__)
    if is_installed(kind.__module__) and _is_there(kind):
        return
    for base in kind.__bases__:
        walk.visit(base, path)
    if type(kind) is not type:
        walk.visit(type(kind), path)
    walk.attributes(((name, value) for name, value in vars(kind).items() if name not in UNREAD), path)


def _is_there(kind: type) -> bool:
    """Whether a class can be imported by its name; a class made at run time (a parametrized layer's) cannot."""
    found: Any = sys.modules.get(kind.__module__)
    for name in kind.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is kind


def _visit_module(walk: Walk, module: types.ModuleType, path: str) -> None:
    walk.put("module", module.__name__)
    if not is_installed(module.__name__):
        own = {name: value for name, value in vars(module).items() if not name.startswith("__")}
        walk.attributes(own.items(), path)


def _visit_method(walk: Walk, method: types.MethodType, path: str) -> None:
    walk.visit(method.__func__, path)
    walk.visit(method.__self__, path)


def _visit_builtin(walk: Walk, function: types.BuiltinFunctionType, path: str) -> None:
    owner = function.__self__
    walk.put("builtin", function.__module__, function.__qualname__)
    if not isinstance(owner, types.ModuleType | type(None)):
        walk.visit(owner, path)


def _visit_wrapper(walk: Walk, wrapper: Any, path: str) -> None:
    """Add one of Python's wrappers (property, classmethod, ...) with the functions in it."""
    held = next(names for kind, names in _WRAPPERS.items() if isinstance(wrapper, kind))
    walk.put("wrapper", type(wrapper).__name__)
    for name in held:
        walk.visit(getattr(wrapper, name), path)


def _visit_original(walk: Walk, compiled: Any, path: str) -> bool:
    """Add the original of a compiled function; return whether there is one."""
    held = next((vars(compiled)[name] for name in COMPILED if name in getattr(compiled, "__dict__", {})), None)
    if not callable(held):
        return False
    walk.put("compiled")
    walk.visit(held, path)
    return True


def _visit_object(walk: Walk, value: Any, path: str) -> None:
    if not _visit_original(walk, value, path):
        walk.take_apart(value, path)


def _visit_name(walk: Walk, value: Any, path: str) -> None:  # noqa: ARG001
    walk.put(type(value).__name__, getattr(value, "__qualname__", value.__name__))


_WRAPPERS: dict[type, tuple[str, ...]] = {
    staticmethod: ("__func__",), classmethod: ("__func__",), property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",), type(functools.lru_cache(len)): ("__wrapped__",),
}  # fmt: skip
_DESCRIPTORS: tuple[type, ...] = (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)
_DESCRIPTORS += (types.MethodDescriptorType, types.ClassMethodDescriptorType, types.MethodWrapperType)

CODE_VISITS: tuple[tuple[Any, Visit], ...] = (
    (types.FunctionType, visit_function),
    (type, visit_class),
    (types.ModuleType, _visit_module),
    (types.MethodType, _visit_method),
    (types.BuiltinFunctionType, _visit_builtin),
    (tuple(_WRAPPERS), _visit_wrapper),
    (_DESCRIPTORS, _visit_name),
    (object, _visit_object),
)
