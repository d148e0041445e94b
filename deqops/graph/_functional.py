"""From the exported node list to single assignment: in-place operations become pure ones.

An in-place operation makes a new value. Every live name whose memory it changed must then stand for a new value
too: names of exactly the same memory take the new one, names of other views of the same memory are computed
anew from it. Where it cannot be told which memory a name shares, the operation is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from deqops._errors import ModelFileError, UnsupportedOperationError
from deqops.graph._aliases import Memory, Step, step_of, written_back
from deqops.graph._operations import (
    FRESH,
    KNOWN,
    METADATA_ONLY,
    functional_name,
    is_random,
    is_random_in_training,
    may_promote,
    own_name,
)
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
    _memory: dict[str, Memory] = field(default_factory=dict)
    _roots: dict[int, int] = field(default_factory=dict)  # piece of memory -> the value it holds now
    _last_use: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def run(self, nodes: Sequence[RawNode], outputs: Sequence[str]) -> None:
        """Append the instructions of all nodes."""
        self._count = len(self.numbers)
        for name, number in self.numbers.items():
            self._own_memory(name, number)
        self._last_use = _last_uses(nodes, outputs)
        for place, node in enumerate(nodes):
            for result in node.results:
                if result in self.numbers:
                    raise ModelFileError(f"model file: value {result!r:.80} is computed twice")
            functional = functional_name(node.op)
            if functional is None:
                self._plain(node)
            elif is_random(node.op) and not is_random_in_training(functional):  # of the others the arguments tell
                self.impure.append(f"random: {node.op}")
                self._in_place(node, functional, place)
            elif functional in METADATA_ONLY or functional not in KNOWN:
                raise UnsupportedOperationError(node.op, "changes a tensor in place and has no pure form here")
            else:
                self._in_place(node, functional, place)

    def _plain(self, node: RawNode) -> None:
        operands = [name for name in _names(node.arguments) if name in self._memory]
        arguments = self._resolved_all(node)
        numbers = self._emit(node.op, arguments, len(node.results))
        step = step_of(node.op, arguments)
        for result, number in zip(node.results, numbers, strict=True):
            self.numbers[result] = number
            if node.op.startswith("sym."):
                continue  # a number, not memory
            if node.op in FRESH or not operands:
                self._own_memory(result, number)
            elif step is not None and len(operands) == 1:
                self._memory[result] = self._memory[operands[0]].seen_through(step)
            else:
                self._memory[result] = Memory(self._merged(operands), None, ())

    def _in_place(self, node: RawNode, functional: str, place: int) -> None:
        given = dict(node.arguments)
        target = given.get("out", given.get("self"))
        if not isinstance(target, Name) or len(node.results) != 1 or target.text not in self._memory:
            raise ModelFileError(f"model file: in-place operation {node.op} names no tensor to change")
        changed = self._memory[target.text]
        self._check_shared(node, target.text, changed, place)
        before = self.numbers[target.text]
        pairs = [(name, argument) for name, argument in self._resolved_all(node) if name != "out"]
        arguments = tuple((own_name(functional, name), argument) for name, argument in pairs)
        (after,) = self._emit(functional, arguments, 1)
        if may_promote(functional):  # the result keeps the dtype of the tensor that is changed
            (after,) = self._emit("aten.type_as.default", (("other", Ref(before)), ("self", Ref(after))), 1)
        self.numbers[node.results[0]] = after
        self._memory[node.results[0]] = changed
        if changed.root is None:
            for name in [n for n, number in self.numbers.items() if number in (before, after)]:
                self.numbers[name] = after
                self._own_memory(name, after, group=changed.group)
        else:
            self._write(changed.root, changed.steps, after, place)

    def _check_shared(self, node: RawNode, target: str, changed: Memory, place: int) -> None:
        """Note a change of a placeholder; refuse where a live name may share memory in an unknown way."""
        read_here = set(_names(node.arguments))
        for name, memory in self._memory.items():
            if memory.group != changed.group:
                continue
            if name in self.protected:
                self.impure.append(f"{node.op} changes {self.protected[name]}")
            if self.numbers[name] == self.numbers[target] or memory.is_apart_from(changed):
                continue
            live = self._last_use.get(name, -1) > place
            same_place = memory == changed and changed.root is not None
            if (live and None in (memory.root, changed.root)) or (name in read_here and not same_place):
                raise UnsupportedOperationError(node.op, "changes memory that another live tensor shares")

    def _write(self, root: int, steps: tuple[Step, ...], value: int, place: int) -> None:
        """Store `value` in the view `steps` of a piece of memory, and renew the live names that see it."""
        parents = [self._roots[root]]
        for step in steps[:-1]:
            parents += self._emit(step.op, step.applied_to(parents[-1]), 1)
        whole = value
        for step, parent in zip(reversed(steps), reversed(parents), strict=False):
            op, arguments = written_back(step, parent, whole)
            (whole,) = self._emit(op, arguments, 1)
        self._roots[root] = whole
        for name, memory in self._memory.items():
            if memory.root != root:
                continue
            if memory.steps == steps:
                self.numbers[name] = value
            elif self._last_use.get(name, -1) > place:
                self.numbers[name] = self._seen(whole, memory.steps)

    def _seen(self, whole: int, steps: tuple[Step, ...]) -> int:
        for step in steps:
            (whole,) = self._emit(step.op, step.applied_to(whole), 1)
        return whole

    def _emit(self, op: str, arguments: tuple[tuple[str, Argument], ...], count: int) -> tuple[int, ...]:
        numbers = tuple(range(self._count, self._count + count))
        self._count += count
        self.instructions.append(Instruction(op, arguments, numbers))
        return numbers

    def _resolved_all(self, node: RawNode) -> tuple[tuple[str, Argument], ...]:
        return tuple((name, self._resolved(argument)) for name, argument in node.arguments)

    def _resolved(self, argument: object) -> Argument:
        if isinstance(argument, Name):
            if argument.text not in self.numbers:
                raise ModelFileError(f"model file: value {argument.text!r:.80} is used before it is computed")
            return Ref(self.numbers[argument.text])
        if isinstance(argument, tuple):
            return tuple(self._resolved(item) for item in argument)
        return argument  # type: ignore[return-value]

    def _own_memory(self, name: str, number: int, group: int | None = None) -> None:
        root = len(self._roots)
        self._roots[root] = number
        self._memory[name] = Memory(root if group is None else group, root, ())

    def _merged(self, operands: Sequence[str]) -> int:
        """One group for everything that any of the operands may share memory with."""
        groups = {self._memory[name].group for name in operands}
        chosen = min(groups)
        for name, memory in self._memory.items():
            if memory.group in groups:
                self._memory[name] = replace(memory, group=chosen)
        return chosen


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
