"""From the exported node list to single assignment: in-place operations become pure ones.

An in-place operation makes a new value that takes the place of the changed tensor from then on. That is the same
function only if nothing that shares its memory is read afterwards; where that cannot be excluded the operation is
refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deqops._errors import ModelFileError, UnsupportedOperationError
from deqops.graph._operations import FRESH, KNOWN, functional_name, is_random
from deqops.graph._program import Argument, Instruction, Ref


@dataclass(frozen=True)
class RawNode:
    """One exported node: operation, arguments with `Name` references, names of its results."""

    op: str
    arguments: tuple[tuple[str, Argument | object], ...]
    results: tuple[str, ...]
    several: bool  # the operation returns a tuple or list


@dataclass(frozen=True, slots=True)
class Name:
    """A reference to an exported value by name."""

    text: str


@dataclass
class Assignment:
    """Turns raw nodes into instructions over numbered values."""

    numbers: dict[str, int]
    protected: Mapping[str, str]  # placeholder name -> what a change of it is called
    impure: list[str] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    _storage: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def run(self, nodes: Sequence[RawNode], outputs: Sequence[str]) -> None:
        """Append the instructions of all nodes."""
        for name in self.numbers:
            self._storage[name] = len(self._storage)
        last_use = _last_uses(nodes, outputs)
        for place, node in enumerate(nodes):
            functional = functional_name(node.op)
            if functional is not None and is_random(node.op):
                self.impure.append(f"random: {node.op}")
            if functional is not None and functional in KNOWN:
                self._in_place(node, functional, place, last_use)
            elif functional is not None:
                raise UnsupportedOperationError(node.op, "changes a tensor in place and has no pure form here")
            else:
                self._plain(node)

    def _plain(self, node: RawNode) -> None:
        operands = list(_names(node.arguments))
        instruction = self._instruction(node.op, node)
        if node.op in FRESH or node.op.startswith("sym.") or not operands:
            for result in node.results:
                self._storage[result] = self._new_storage()
        else:
            self._merge(operands, node.results)
        self.instructions.append(instruction)

    def _in_place(self, node: RawNode, functional: str, place: int, last_use: Mapping[str, int]) -> None:
        target = dict(node.arguments).get("self")
        if not isinstance(target, Name) or len(node.results) != 1:
            raise ModelFileError(f"model file: in-place operation {node.op} names no tensor to change")
        if target.text in self.protected:
            self.impure.append(f"{node.op} changes {self.protected[target.text]}")
        group = self._storage.get(target.text)
        own = {target.text, node.results[0]}
        for name, storage in self._storage.items():
            if storage == group and name not in own and last_use.get(name, -1) > place:
                if self.numbers[name] == self.numbers[target.text]:
                    continue  # another name of the same value: renumbered below
                raise UnsupportedOperationError(node.op, "changes memory that another live tensor shares")
        same = [n for n, v in self.numbers.items() if v == self.numbers[target.text]]
        self.instructions.append(self._instruction(functional, node))
        fresh = self._new_storage()
        for name in [*same, node.results[0]]:
            self.numbers[name] = self.numbers[node.results[0]]
            self._storage[name] = fresh

    def _instruction(self, op: str, node: RawNode) -> Instruction:
        arguments = tuple((name, self._resolved(argument)) for name, argument in node.arguments)
        for result in node.results:
            self.numbers[result] = self._next()
        return Instruction(op, arguments, tuple(self.numbers[result] for result in node.results))

    def _next(self) -> int:
        self._count = max(self._count, len(self.numbers)) + 1
        return self._count

    def _resolved(self, argument: object) -> Argument:
        if isinstance(argument, Name):
            if argument.text not in self.numbers:
                raise ModelFileError(f"model file: value {argument.text!r:.80} is used before it is computed")
            return Ref(self.numbers[argument.text])
        if isinstance(argument, tuple):
            return tuple(self._resolved(item) for item in argument)
        return argument  # type: ignore[return-value]

    def _new_storage(self) -> int:
        return max(self._storage.values(), default=-1) + 1

    def _merge(self, operands: list[str], results: tuple[str, ...]) -> None:
        groups = {self._storage[name] for name in operands if name in self._storage}
        chosen = min(groups, default=self._new_storage())
        for name, storage in self._storage.items():
            if storage in groups:
                self._storage[name] = chosen
        for name in results:
            self._storage[name] = chosen


def _names(arguments: object) -> list[str]:
    if isinstance(arguments, Name):
        return [arguments.text]
    if isinstance(arguments, tuple):
        return [name for item in arguments for name in _names(item)]
    return []


def _last_uses(nodes: Sequence[RawNode], outputs: Sequence[str]) -> dict[str, int]:
    last: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for name in _names(node.arguments):
            last[name] = place
    for name in outputs:
        last[name] = len(nodes)
    return last
