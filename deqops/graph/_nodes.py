"""Nodes as a model file writes them: operation, arguments, results, each checked on the way in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from deqops._errors import ModelFileError, UnsupportedOperationError
from deqops.graph._functional import Name, RawNode
from deqops.graph._json import get, union
from deqops.graph._operations import (
    IGNORED_ARGUMENTS,
    KNOWN,
    functional_name,
    is_check,
    is_random,
    is_random_in_training,
)
from deqops.graph._scalars import scalar_name
from deqops.graph._tensors import dtype_of

_NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
_AUTOCAST = "torch.ops.higher_order.wrap_with_autocast"
_SWITCHES = {_NO_GRAD: ("as_bool",), _AUTOCAST: ("as_string", None, "as_bool", None)}
"""Blocks, and the kinds of the arguments before their graph; None for any."""
_MAX_NESTING = 8


def raw_nodes(entry: object, nesting: int = 0) -> list[RawNode]:
    """The node that an entry of the graph's list describes; none for an assertion, several for a block."""
    target = get(entry, "target", str)
    if target in _SWITCHES:
        return _inlined(entry, target, nesting)
    op = _operation(target)
    if is_check(op):
        return []
    arguments = []
    for item in get(entry, "inputs", list):
        name = get(item, "name", str)
        if name not in IGNORED_ARGUMENTS:
            arguments.append((name, _argument(get(item, "arg", dict), op)))
    results, several = _results(get(entry, "outputs", list), op)
    return [RawNode(op, tuple(arguments), results, several)]


def _inlined(entry: object, block: str, nesting: int) -> list[RawNode]:
    """A block that computes the same values as its nodes do without it: they take the place of the call.

    Such are blocks under another gradient mode, and those that switch autocasting off.
    """
    if nesting >= _MAX_NESTING:
        raise ModelFileError("model file: its blocks are nested too deeply")
    given = [get(item, "arg", dict) for item in get(entry, "inputs", list)]
    tags, kinds = [union(argument)[0] for argument in given], (*_SWITCHES[block], "as_graph")
    count = len(kinds)
    if len(tags) < count or any(kind not in (None, tag) for kind, tag in zip(kinds, tags, strict=False)):
        raise ModelFileError("model file: damaged block")
    if block == _AUTOCAST and given[2]["as_bool"] is not False:
        raise UnsupportedOperationError(block, "casts what is computed in it; export without autocasting")
    graph = get(get(given[count - 1], "as_graph", dict), "graph", dict)
    parameters, _ = _results(get(graph, "inputs", list), block)
    outputs, _ = _results(get(graph, "outputs", list), block)
    results, _ = _results(get(entry, "outputs", list), block)
    if len(parameters) != len(given) - count or len(outputs) != len(results):
        raise ModelFileError("model file: a block's arguments do not fit it")
    inner = [node for item in get(graph, "nodes", list) for node in raw_nodes(item, nesting + 1)]
    prefix = f"{results[0] if results else ''}/"
    names: dict[str, Any] = {text: prefix + text for node in inner for text in node.results}
    names |= dict(zip(parameters, (_argument(argument, block) for argument in given[count:]), strict=True))
    body = [
        RawNode(node.op, _renamed(node.arguments, names), tuple(prefix + text for text in node.results), node.several)
        for node in inner
    ]
    ends = zip(outputs, results, strict=True)
    return body + [RawNode("aten.alias.default", (("self", _renamed(Name(o), names)),), (r,), False) for o, r in ends]


def _renamed(argument: Any, names: Mapping[str, Any]) -> Any:
    """An argument with names of a block replaced: by new names, or by the arguments of the call."""
    if isinstance(argument, Name):
        if argument.text not in names:
            raise ModelFileError(f"model file: value {argument.text!r:.80} is unknown in a block")
        found = names[argument.text]
        return Name(found) if isinstance(found, str) else found
    if isinstance(argument, tuple):
        return tuple(_renamed(item, names) for item in argument)
    return argument


def _operation(target: str) -> str:
    scalar = scalar_name(target)
    if scalar is not None:
        return scalar
    op = target.removeprefix("torch.ops.")
    if not op.startswith("aten.") or len(op) > 120:
        raise UnsupportedOperationError(f"{target:.120}", "is no plain tensor operation")
    return _OURS.get(op, op)


# Devices are ignored, so a move to another device is a cast.
_OURS = {"aten.sym_size.int": "sym.size", "aten.sym_numel.default": "sym.numel", "aten.to.device": "aten.to.dtype"}
_LISTS = {"as_ints", "as_floats", "as_bools", "as_strings"}


def _argument(argument: object, op: str) -> Any:
    tag, value = union(argument)
    if tag == "as_none":
        return None
    if tag == "as_tensor":
        return Name(get(value, "name", str))
    if tag in ("as_tensors", "as_nested_tensors") and isinstance(value, list):
        return tuple(Name(get(item, "name", str)) for item in value)
    if tag == "as_optional_tensors" and isinstance(value, list):
        return tuple(_argument(item, op) for item in value)
    if tag == "as_optional_tensor":
        return _argument(value, op)
    if tag in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return _symbol(value)
    if tag in ("as_sym_ints", "as_sym_floats") and isinstance(value, list):
        return tuple(_symbol(item) for item in value)
    if tag == "as_scalar_type":
        return dtype_of(value)
    if tag in _LISTS and isinstance(value, list):
        return tuple(_float(item, op) if tag == "as_floats" else _plain(item, op) for item in value)
    if tag in ("as_int", "as_float", "as_bool", "as_string"):
        return _plain(value, op) if tag != "as_float" else _float(value, op)
    if tag == "as_complex" and isinstance(value, dict):
        return complex(_float(value.get("real"), op), _float(value.get("imag"), op))
    if tag in ("as_device", "as_layout", "as_memory_format"):
        return None
    raise UnsupportedOperationError(op, f"takes an argument of kind {tag:.40}, which is not supported")


def _symbol(value: object) -> Any:
    tag, inner = union(value)
    if tag == "as_name" and isinstance(inner, str):
        return Name(inner)
    if tag in ("as_int", "as_bool", "as_float"):
        return inner if isinstance(inner, bool | int | float) else _float(inner, "a size")
    raise ModelFileError(f"model file: a size of kind {tag:.40} is not supported")


def _plain(value: object, op: str) -> Any:
    if isinstance(value, str) and len(value) > 1000:
        raise ModelFileError(f"model file: operation {op} has an overlong string argument")
    if isinstance(value, bool | int | float | str):
        return value
    raise ModelFileError(f"model file: operation {op} has an argument of the wrong kind")


def _float(value: object, op: str) -> float:
    """Floats are written as numbers, infinities and NaN as words."""
    words = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}
    if isinstance(value, str) and value in words:
        return words[value]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > sys.float_info.max:
        raise ModelFileError(f"model file: operation {op} has a float argument that is no number")
    return float(value)


def _results(outputs: list[object], op: str) -> tuple[tuple[str, ...], bool]:
    names: list[str] = []
    several = len(outputs) > 1
    for output in outputs:
        tag, value = union(output)
        if tag == "as_tensor":
            names.append(get(value, "name", str))
        elif tag in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            symbol = _symbol(value)
            if not isinstance(symbol, Name):
                raise ModelFileError(f"model file: operation {op} returns a number without a name")
            names.append(symbol.text)
        elif tag == "as_tensors" and isinstance(value, list):
            several = True
            names.extend(get(item, "name", str) for item in value)
        else:
            raise UnsupportedOperationError(op, f"returns a value of kind {tag:.40}, which is not supported")
    return tuple(names), several


def impurities(node: RawNode) -> list[str]:
    """Why a node keeps the graph from being one fixed map."""
    arguments = dict(node.arguments)
    resting = is_random_in_training(functional_name(node.op) or node.op) and True not in (
        arguments.get("train"),
        arguments.get("training"),
    )
    if is_random(node.op) and not resting:
        return [f"random: {node.op}"]
    if node.op not in KNOWN and functional_name(node.op) is None and not node.op.startswith("sym."):
        return [f"{node.op}: not known to deqops, so it may change its operands"]
    random = "dropout" in node.op or node.op.endswith(".input")  # of recurrent layers, between layers
    if random and arguments.get("train") is True and arguments.get("p", arguments.get("dropout")) != 0.0:
        return [f"dropout in training mode: {node.op}"]
    if arguments.get("dropout_p", 0.0) not in (0, None):
        return [f"dropout: {node.op}"]
    learns = any(arguments.get(name) is True for name in ("use_input_stats", "training", "train"))
    kept = any(arguments.get(name) is not None for name in ("running_mean", "running_var"))
    if "_norm" in node.op and learns and kept:
        return [f"batch statistics in training mode: {node.op}"]
    return []
