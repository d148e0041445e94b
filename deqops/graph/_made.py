"""Tensors that a program makes itself, in the dtype that they had in the process that exported it."""

from __future__ import annotations

from dataclasses import replace

import torch

from deqops.graph._functional import RawNode
from deqops.graph._tensors import dtype_of

_MAKING = frozenset(
    f"aten.{name}"
    for name in """zeros.default ones.default full.default empty.memory_format arange.default arange.start
    arange.start_step eye.default eye.m scalar_tensor.default linspace.default""".split()  # noqa: SIM905 - reads as one
)


def in_its_dtype(node: RawNode, values: object) -> RawNode:
    """The node with its dtype said where torch's default one, which it goes by, is another here than at the export.

    Args:
        node: any.
        values: what the file says of its values, by name.
    """
    if node.op not in _MAKING or dict(node.arguments).get("dtype") is not None or not isinstance(values, dict):
        return node
    known = values.get(node.results[0])
    dtype = dtype_of(known["dtype"]) if isinstance(known, dict) and "dtype" in known else None
    if dtype is None or not dtype.is_floating_point or dtype == torch.get_default_dtype():
        return node
    others = (argument for argument in node.arguments if argument[0] != "dtype")
    return replace(node, arguments=(*others, ("dtype", dtype)))
