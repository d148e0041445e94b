"""Which memory a name stands for, as far as the exported node list tells."""

from __future__ import annotations

from dataclasses import dataclass, replace

from deqops.graph._operations import VIEWS
from deqops.graph._program import Argument, Ref

Arguments = tuple[tuple[str, Argument], ...]

_SAME = frozenset({"aten.alias.default", "aten.detach.default", "aten.lift_fresh.default"})
_SELF_INVERSE = frozenset({"aten.t.default", "aten.transpose.int"})
_SCATTERS = {"aten.select.int": "aten.select_scatter.default", "aten.slice.Tensor": "aten.slice_scatter.default"}


@dataclass(frozen=True, slots=True)
class Step:
    """A view operation; `arguments` are all but the tensor it looks at."""

    op: str
    arguments: Arguments

    def applied_to(self, value: int) -> Arguments:
        """The arguments for viewing `value`."""
        return tuple(sorted((*self.arguments, ("self", Ref(value))), key=lambda item: item[0]))


@dataclass(frozen=True, slots=True)
class Memory:
    """What a name stands for: the view `steps` of the piece of memory `root`.

    `root` is None where an operation may or may not have copied. Names of one `group` may share memory; names of
    different groups never do.
    """

    group: int
    root: int | None
    steps: tuple[Step, ...]

    def seen_through(self, step: Step) -> Memory:
        """The memory that a view of this name stands for."""
        if self.root is None or step.op in _SAME:
            return self
        return replace(self, steps=(*self.steps, step))

    def is_apart_from(self, other: Memory) -> bool:
        """Whether the two surely share no memory."""
        return self.group != other.group or (None not in (self.root, other.root) and self.root != other.root)


def step_of(op: str, arguments: Arguments) -> Step | None:
    """The view that an operation is, or None where it is none for sure."""
    if op not in VIEWS:
        return None
    return Step(op, tuple((name, argument) for name, argument in arguments if name != "self"))


def written_back(step: Step, parent: int, value: int) -> tuple[str, Arguments]:
    """The operation that gives `parent` with the part that `step` looks at replaced by `value`."""
    if step.op in _SCATTERS:
        return _SCATTERS[step.op], tuple(sorted((*step.arguments, ("self", Ref(parent)), ("src", Ref(value)))))
    if step.op in _SELF_INVERSE:
        return step.op, step.applied_to(value)
    if step.op == "aten.permute.default":
        return "aten.permute.default", (("dims", _inverse(dict(step.arguments)["dims"])), ("self", Ref(value)))
    return "aten.reshape_as.default", (("other", Ref(parent)), ("self", Ref(value)))


def _inverse(dims: Argument) -> Argument:
    if not isinstance(dims, tuple):
        return dims
    plain = [dim % len(dims) if isinstance(dim, int) else 0 for dim in dims]
    return tuple(plain.index(position) if position in plain else 0 for position in range(len(plain)))
