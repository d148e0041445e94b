"""Operations that deqops does not know, written by torch's own decompositions in those that it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch._ops import OpOverload
from torch.export import ExportedProgram, default_decompositions

from deqops.graph._operations import functional_name, is_check, is_random, operations
from deqops.graph._quiet import quiet
from deqops.graph._scalars import scalar_name


def decomposed(program: ExportedProgram) -> ExportedProgram:
    """The program in known operations; as it is where it has no others, or where these have no decomposition."""
    if not any(_unknown(program)):
        return program
    try:
        with quiet():
            other = program.run_decompositions(dict(_decompositions()))
    except Exception:  # whatever torch raises: the reader names the operation that it does not know
        return program
    return program if any(_unknown(other)) else other


def _unknown(program: ExportedProgram) -> Iterator[OpOverload]:
    for part in program.graph_module.modules():
        if isinstance(part, torch.fx.GraphModule):
            targets = (node.target for node in part.graph.nodes if node.op == "call_function")
            yield from (t for t in targets if isinstance(t, OpOverload) and not _is_known(str(t)))


def _is_known(name: str) -> bool:
    is_scalar = scalar_name(f"torch.ops.{name}") is not None or name in _SIZES
    return is_scalar or is_check(name) or is_random(name) or (functional_name(name) or name) in operations()


_SIZES = ("aten.sym_size.int", "aten.sym_numel.default")


@cache
def _decompositions() -> dict[OpOverload, Callable[..., Any]]:
    """Of whatever is not known here; an operation that draws random numbers keeps its name, which tells."""
    core: Any = default_decompositions()
    table: dict[Any, Callable[..., Any]] = dict(decomposition_table) | dict(core.items())
    return {op: function for op, function in table.items() if isinstance(op, OpOverload) and not _is_known(str(op))}
