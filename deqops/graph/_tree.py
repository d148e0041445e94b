"""The structure of the state and of each input: a tensor, or tuples, lists and dicts of tensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from deqops._errors import InputError, ModelFileError
from deqops.graph._json import parse_json

_TYPES: dict[str, Literal["tuple", "list", "dict"]] = {
    "builtins.tuple": "tuple",
    "builtins.list": "list",
    "builtins.dict": "dict",
}
_MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Tree:
    """A structure: a leaf, or a node of kind tuple, list or dict (with its keys) over children."""

    kind: Literal["leaf", "tuple", "list", "dict"] = "leaf"
    children: tuple[Tree, ...] = ()
    keys: tuple[str, ...] = ()

    def flatten(self, value: object, name: str) -> list[Any]:
        """The leaves of `value` in order; raises InputError naming `name` when the structure differs."""
        if self.kind == "leaf":
            return [value]
        parts = self._parts(value, name)
        return [
            leaf for child, (path, part) in zip(self.children, parts, strict=True) for leaf in child.flatten(part, path)
        ]

    def _parts(self, value: object, name: str) -> list[tuple[str, object]]:
        if self.kind == "dict":
            if not isinstance(value, dict) or set(value) != set(self.keys):
                raise InputError(f"{name} is {_describe(value)}: pass a dict with the keys {list(self.keys)}")
            return [(f"{name}.{key}", value[key]) for key in self.keys]
        expected = tuple if self.kind == "tuple" else list
        if not isinstance(value, expected) or len(value) != len(self.children):
            raise InputError(f"{name} is {_describe(value)}: pass a {self.kind} of {len(self.children)} entries")
        return [(f"{name}.{index}", part) for index, part in enumerate(value)]

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The structure filled with `leaves`, in order."""
        remaining = iter(leaves)
        return self._fill(remaining)

    def _fill(self, remaining: Any) -> Any:
        if self.kind == "leaf":
            return next(remaining)
        parts = [child._fill(remaining) for child in self.children]
        if self.kind == "dict":
            return dict(zip(self.keys, parts, strict=True))
        return tuple(parts) if self.kind == "tuple" else parts

    def names(self, name: str) -> list[str]:
        """A dotted name for each leaf: `name` itself for a tensor, "name.key" within a dict."""
        if self.kind == "leaf":
            return [name]
        labels = self.keys if self.kind == "dict" else [str(i) for i in range(len(self.children))]
        return [
            leaf for label, child in zip(labels, self.children, strict=True) for leaf in child.names(f"{name}.{label}")
        ]

    @property
    def size(self) -> int:
        """The number of leaves."""
        return 1 if self.kind == "leaf" else sum(child.size for child in self.children)

    def leaf_order(self, other: Tree) -> list[int] | None:
        """For each leaf of `self` the number of the same leaf in `other` (dict keys in any order).

        Returns None when the structures differ.
        """
        try:
            order = self.flatten(other.unflatten(range(other.size)), "state")
        except InputError:
            return None
        return order if all(type(place) is int for place in order) else None

    def to_json(self) -> object:
        """Plain JSON: null for a leaf, {"tuple": [...]}, {"list": [...]} or {"dict": {...}}."""
        if self.kind == "leaf":
            return None
        children = [child.to_json() for child in self.children]
        return {self.kind: dict(zip(self.keys, children, strict=True)) if self.kind == "dict" else children}


def tree_of(value: object, name: str) -> Tree:
    """The structure of a state or input; raises InputError for anything but tensors, tuples, lists, dicts."""
    if type(value) in (tuple, list):
        items = [(str(index), item) for index, item in enumerate(value)]  # type: ignore[arg-type, var-annotated]
        children = tuple(tree_of(item, f"{name}.{label}") for label, item in items)
        return Tree("tuple" if type(value) is tuple else "list", children)
    if type(value) is dict:
        if not all(isinstance(key, str) for key in value):
            raise InputError(f"{name} has keys that are not strings: use string keys")
        children = tuple(tree_of(item, f"{name}.{key}") for key, item in value.items())
        return Tree("dict", children, tuple(value))
    if isinstance(value, torch.Tensor) or value is None or isinstance(value, (bool, int, float, str)):
        return Tree()
    raise InputError(f"{name} is {_describe(value)}: pass tensors, or tuples, lists or dicts of tensors")


def parse_treespec(text: object) -> Tree:
    """The structure in a `torch.export` treespec string, read without any of torch's loaders."""
    if not isinstance(text, str):
        raise ModelFileError("model file: a tree specification is not a string")
    document = parse_json(text.encode(), "a tree specification")
    if not (isinstance(document, list) and len(document) == 2 and document[0] == 1):
        raise ModelFileError("model file: unknown tree specification version: export with a supported torch")
    return _parse_node(document[1], 0)


def _parse_node(node: object, depth: int) -> Tree:
    if not isinstance(node, dict) or depth > _MAX_DEPTH:
        raise ModelFileError("model file: damaged or too deep tree specification")
    kind, context, children = node.get("type"), node.get("context"), node.get("children_spec")
    if not isinstance(children, list):
        raise ModelFileError("model file: damaged tree specification")
    if kind is None and not children:
        return Tree()
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ModelFileError(f"model file: structure type {kind!r:.60} is not a tuple, list or dict")
    parsed = tuple(_parse_node(child, depth + 1) for child in children)
    keys = _parse_keys(context, len(parsed)) if _TYPES[kind] == "dict" else ()
    return Tree(_TYPES[kind], parsed, keys)


def _parse_keys(context: object, count: int) -> tuple[str, ...]:
    try:
        keys = json.loads(context) if isinstance(context, str) else None
    except (ValueError, RecursionError):
        keys = None
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != count:
        raise ModelFileError("model file: a dict's keys are damaged or are not strings")
    if len(keys) != count:
        raise ModelFileError("model file: a dict has repeated keys")
    return tuple(keys)


def _describe(value: object) -> str:
    if isinstance(value, dict):
        return f"a dict with the keys {list(value)!r:.80}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)} entries"
    return f"of type {type(value).__name__}"
