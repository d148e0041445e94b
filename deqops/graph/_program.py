"""A program: the operator graph in single-assignment form, before shapes are fixed.

Values are numbered: the state's leaves first, then the inputs' leaves, then everything else in the order in
which a depth-first walk from the outputs meets it. That order depends on the function alone, not on names,
on the order of definition of the modules or on dead code, so it is what the fingerprint hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from deqops._fingerprint import dtype_name, tensor_digest


@dataclass(frozen=True, slots=True)
class Ref:
    """A reference to the value numbered `index`."""

    index: int


Argument = None | bool | int | float | complex | str | torch.dtype | Ref | tuple["Argument", ...]


@dataclass(frozen=True, slots=True)
class Instruction:
    """`outputs = op(**arguments)`; several outputs where the operation returns a tuple or a list."""

    op: str
    arguments: tuple[tuple[str, Argument], ...]
    outputs: tuple[int, ...]

    @property
    def operands(self) -> tuple[int, ...]:
        """The numbers of the values that the arguments refer to, in order."""
        return tuple(ref.index for _, argument in self.arguments for ref in references(argument))


@dataclass(frozen=True)
class Program:
    """`G(state, *inputs)` as instructions; `constants` names the value numbers that are model tensors."""

    state: tuple[int, ...]
    inputs: tuple[int, ...]
    constants: Mapping[int, str]
    instructions: tuple[Instruction, ...]
    outputs: tuple[int, ...]


def references(argument: Argument) -> Iterator[Ref]:
    """The references inside an argument, in order."""
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, tuple):
        for item in argument:
            yield from references(item)


def substitute(argument: Argument, numbers: Mapping[int, int]) -> Argument:
    """The argument with each reference renumbered."""
    if isinstance(argument, Ref):
        return Ref(numbers[argument.index])
    if isinstance(argument, tuple):
        return tuple(substitute(item, numbers) for item in argument)
    return argument


def canonical(program: Program) -> Program:
    """The same function without dead code, renumbered in the canonical order."""
    numbers = {value: index for index, value in enumerate((*program.state, *program.inputs))}
    ordered: list[Instruction] = []
    producer = {out: instruction for instruction in program.instructions for out in instruction.outputs}
    for value in _walk(program.outputs, producer, set(numbers)):
        instruction = producer.get(value)
        if instruction is None:
            numbers[value] = len(numbers)
            continue
        for out in instruction.outputs:
            numbers[out] = len(numbers)
        ordered.append(instruction)
    return Program(
        state=tuple(numbers[v] for v in program.state),
        inputs=tuple(numbers[v] for v in program.inputs),
        constants={numbers[v]: name for v, name in program.constants.items() if v in numbers},
        instructions=tuple(_renumber(instruction, numbers) for instruction in ordered),
        outputs=tuple(numbers[v] for v in program.outputs),
    )


def _walk(roots: Sequence[int], producer: Mapping[int, Instruction], done: set[int]) -> Iterator[int]:
    """Depth-first post-order, without recursion: each value (or one output of its instruction) once."""
    stack: list[tuple[int, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        value, ready = stack.pop()
        if value in done:
            continue
        instruction = producer.get(value)
        if ready or instruction is None:
            done.update(instruction.outputs if instruction else (value,))
            yield value
            continue
        stack.append((value, True))
        stack.extend((operand, False) for operand in reversed(instruction.operands))


def _renumber(instruction: Instruction, numbers: Mapping[int, int]) -> Instruction:
    arguments = tuple((name, substitute(argument, numbers)) for name, argument in instruction.arguments)
    return replace(
        instruction,
        arguments=tuple(sorted(arguments, key=lambda item: item[0])),
        outputs=tuple(numbers[out] for out in instruction.outputs),
    )


def fingerprint(program: Program, constants: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of a canonical program and of its tensors' dtypes, shapes and little-endian bytes."""
    document = {
        "fingerprint": 1,
        "state": len(program.state),
        "inputs": len(program.inputs),
        "constants": {str(v): tensor_digest(constants[name]) for v, name in program.constants.items()},
        "nodes": [
            [i.op, [[name, _plain(argument)] for name, argument in i.arguments], list(i.outputs)]
            for i in program.instructions
        ],
        "outputs": list(program.outputs),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(argument: Argument) -> object:
    """The argument as JSON; the kinds are kept apart ({"value": 3} is not 3, {"float": "0x1p+0"} is not 1)."""
    if isinstance(argument, Ref):
        return {"value": argument.index}
    if isinstance(argument, float):
        return {"float": argument.hex()}
    if isinstance(argument, complex):
        return {"complex": [argument.real.hex(), argument.imag.hex()]}
    if isinstance(argument, torch.dtype):
        return {"dtype": dtype_name(argument)}
    if isinstance(argument, tuple):
        return [_plain(item) for item in argument]
    return argument
