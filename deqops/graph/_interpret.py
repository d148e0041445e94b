"""Running a program with torch, through the fixed dictionary of operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from deqops._errors import ModelFileError, UnsupportedOperationError
from deqops.graph._operations import operations, parameters, required_switches
from deqops.graph._program import Argument, Instruction, Program, Ref
from deqops.graph._scalars import evaluate


def run(program: Program, leaves: Sequence[Tensor], constants: Mapping[str, Tensor]) -> list[Tensor]:
    """The program's outputs; `leaves` are the state's and the inputs' tensors, in order."""
    values: dict[int, Any] = dict(zip((*program.state, *program.inputs), leaves, strict=True))
    values.update({value: constants[name] for value, name in program.constants.items()})
    for instruction in program.instructions:
        results = execute(instruction, values)
        values.update(zip(instruction.outputs, results, strict=True))
    return [values[value] for value in program.outputs]


def execute(instruction: Instruction, values: Mapping[int, Any]) -> list[Any]:
    """The results of one instruction."""
    arguments = {name: resolved(argument, values) for name, argument in instruction.arguments}
    op = instruction.op
    if op == "sym.size":
        return [int(arguments["self"].shape[arguments["dim"]])]
    if op == "sym.numel":
        return [int(arguments["self"].numel())]
    if op.startswith("sym."):
        return [evaluate(op, list(arguments.values()))]
    function = operations().get(op)
    if function is None:
        raise UnsupportedOperationError(op, "is not known to deqops")
    unknown = set(arguments) - parameters(op)
    if unknown:
        raise ModelFileError(f"model file: operation {op} has no argument {sorted(unknown)[0]!r:.40}")
    if op == "aten.view.default":
        return [arguments["self"].reshape(arguments["size"])]  # a value may lie in memory otherwise than in the export
    if op == "aten.copy.default":
        return [_copied(arguments["self"], arguments["src"])]
    if op in _WRITES and arguments["self"].is_complex():
        return [_written(function, **arguments)]
    result = function(**arguments, **dict.fromkeys(required_switches(op) - set(arguments), False))
    several = isinstance(result, tuple | list)
    results = list(result) if several else [result]
    if len(results) < len(instruction.outputs):
        raise ModelFileError(f"model file: operation {op} has {len(results)} results, not {len(instruction.outputs)}")
    return results[: len(instruction.outputs)]


_WRITES = ("aten.slice_scatter.default", "aten.select_scatter.default")


def _copied(self: Tensor, src: Tensor) -> Tensor:
    """`src` in the place of `self`, of its shape, dtype and device: torch has no derivative of its own."""
    return src.to(self.device, self.dtype).expand(self.shape).clone()


def _written(function: Any, self: Tensor, src: Tensor, dim: int = 0, **place: Any) -> Tensor:
    """Writing into part of a complex tensor, by its real and imaginary parts: torch has no derivative of the other."""
    parts = [torch.view_as_real(tensor.resolve_conj()) for tensor in (self, src.to(self.dtype))]
    written = function(*parts, dim=dim if dim >= 0 else dim - 1, **place)
    return torch.view_as_complex(written.contiguous())


def resolved(argument: Argument, values: Mapping[int, Any]) -> Any:
    """An argument with its references replaced by values."""
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, tuple):
        return [resolved(item, values) for item in argument]
    return argument
