"""A program at fixed shapes: sizes, indices and masks evaluated exactly, the rest in a small vocabulary.

`Known` values are exact: numbers, integer and boolean tensors, and floating tensors that are only constructed or
moved (zeros, ones, slices of them). Everything else is a node or leaf of the `ConcreteGraph` under construction;
shapes and dtypes of nodes are found by running the same operation on torch's "meta" device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from deqops._errors import InputError, ModelFileError, UnsupportedOperationError
from deqops.graph._integers import wrong_reason
from deqops.graph._interpret import execute
from deqops.graph._ir import OF_COMPLEX, Attribute, Leaf, Node
from deqops.graph._items import NONE, Complex, Dynamic, Item, Known
from deqops.graph._operations import operations
from deqops.graph._parts import in_parts, with_complex_numbers
from deqops.graph._program import Argument, Instruction, Program, Ref

_OF_WRONG_ARGUMENTS = (
    *(ArithmeticError, AttributeError, IndexError, KeyError, RuntimeError, StopIteration, TypeError, ValueError),
)
Rule = Callable[["Lowering", dict[str, Any]], Any]
RULES: dict[str, Rule] = {}
RULES_OF_COMPLEX: dict[str, Rule] = {}
"""For operations with a complex operand, those that are not the same of each part (`_parts.py`)."""


def lowers(*names: str, of_complex: bool = False) -> Callable[[Rule], Rule]:
    """Register a rule for exported operations ("add.Tensor"; ".default" may be left out)."""

    def register(rule: Rule) -> Rule:
        for name in names:
            table = RULES_OF_COMPLEX if of_complex else RULES
            table[f"aten.{name}" if "." in name else f"aten.{name}.default"] = rule
        return rule

    return register


@dataclass
class Lowering:
    """The graph under construction."""

    program: Program
    leaves: dict[int, Leaf] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    source: str = ""
    _parts: bool = False  # of complex values are being computed
    _count: int = 0
    _made: dict[int, Node] = field(default_factory=dict)
    _moving: set[int] = field(default_factory=set)

    def run(
        self,
        state: Sequence[Tensor],
        inputs: Sequence[Tensor],
        names: Sequence[str],
        constants: Mapping[str, Tensor],
    ) -> list[int]:
        """Lower the whole program; returns the output values."""
        values: dict[int, Item] = {}
        for position, (value, tensor) in enumerate(zip(self.program.state, state, strict=True)):
            values[value] = self.leaf(Leaf("state", position, f"state_{position}", tensor))
        for position, (value, tensor) in enumerate(zip(self.program.inputs, inputs, strict=True)):
            values[value] = self.leaf(Leaf("input", position, names[position], tensor, frozenset({position})))
        for value, name in self.program.constants.items():
            values[value] = self.leaf(Leaf("parameter", -1, name, constants[name]))
        for instruction in self.program.instructions:
            self.source, self._parts = instruction.op, False
            results = self.results(instruction, values)
            values.update(zip(instruction.outputs, results, strict=True))
        return [self.as_dynamic(values[value]).number for value in self.program.outputs]

    def leaf(self, leaf: Leaf) -> Item:
        """A leaf; integers and booleans are known at once."""
        tensor = leaf.tensor.detach()
        if tensor.is_complex() and leaf.kind == "parameter":
            both = torch.view_as_real(tensor.resolve_conj()).unbind(-1)
            names = (f"{leaf.name}.real", f"{leaf.name}.imag")
            parts = [self.leaf(replace(leaf, name=n, tensor=t.contiguous())) for n, t in zip(names, both, strict=True)]
            return Complex(*(part for part in parts if not isinstance(part, Complex)))
        if tensor.is_complex():
            raise InputError(f"{leaf.name}: got {tensor.dtype}; give its real and imaginary parts as two tensors")
        number = self._new()
        self.leaves[number] = Leaf(leaf.kind, leaf.position, leaf.name, tensor, leaf.inputs)
        if tensor.is_floating_point() or leaf.kind == "state":
            if not tensor.is_floating_point():
                raise InputError(f"{leaf.name}: a floating tensor is needed, got {tensor.dtype}")
            if leaf.kind == "state":
                self._moving.add(number)
            return Dynamic(number, tensor.to("meta"))
        return Known(tensor.cpu(), leaf.inputs)

    def depends(self, item: Any) -> bool:
        """Whether an item depends on the state."""
        return isinstance(item, Dynamic) and item.number in self._moving

    def maker(self, item: Any) -> Node | None:
        """The node that computes an item; None for what no node computes."""
        return self.node_of(item.number) if isinstance(item, Dynamic) else None

    def node_of(self, value: int) -> Node | None:
        """The node that computes a value; None for a leaf."""
        return self._made.get(value)

    def emit(
        self,
        op: str,
        operands: Sequence[Item],
        compute: Callable[..., Tensor],
        uses: Sequence[Item] = (),
        **attributes: Attribute,
    ) -> Dynamic:
        """A new node; `compute` gives its shape and dtype from meta operands, `uses` what its attributes came from.

        Raises:
            UnsupportedOperationError: in the dtypes at hand it is not the exact-real function that the node means.
        """
        dynamic = [self.as_dynamic(operand) for operand in operands]
        if not dynamic[0].shape and (attributes.get("dims") or "dim" in attributes):
            raise UnsupportedOperationError(self.source, "works along a dimension of a single number, which has none")
        try:
            meta = compute(*(operand.meta for operand in dynamic))
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            raise InputError(
                f"operation {self.source}: {str(error).splitlines()[0]:.200}; check shapes and dtypes"
            ) from None
        wrong = wrong_reason(op, [operand.meta for operand in dynamic], [self._literal(d) for d in dynamic], meta)
        if wrong:
            raise UnsupportedOperationError(self.source, wrong)
        used = frozenset().union(*(item.inputs for item in uses)) if uses else NONE
        number = self._new()
        numbers = tuple(operand.number for operand in dynamic)
        source = self.source + OF_COMPLEX if self._parts else self.source
        self._append(Node(op, numbers, attributes, number, tuple(meta.shape), meta.dtype, source, used))
        return Dynamic(number, meta, used.union(*(operand.inputs for operand in dynamic)))

    def _literal(self, item: Dynamic) -> Tensor | None:
        leaf = self.leaves.get(item.number)
        return leaf.tensor if leaf is not None and leaf.kind == "literal" else None

    def as_dynamic(self, item: Any) -> Dynamic:
        """A value of the graph; what is known becomes a literal."""
        if isinstance(item, Dynamic):
            return item
        if isinstance(item, Complex):
            raise UnsupportedOperationError(self.source, "has complex numbers where real ones are needed")
        known = item if isinstance(item, Known) else Known(item)
        tensor = known.value if isinstance(known.value, Tensor) else scalar_tensor(known.value)
        number = self._new()
        self.leaves[number] = Leaf("literal", -1, "literal", tensor, known.inputs)
        return Dynamic(number, tensor.to("meta"), known.inputs)

    def results(self, instruction: Instruction, values: Mapping[int, Item]) -> list[Item]:
        """What an operation gives."""
        instruction, values = with_complex_numbers(instruction, values)
        arguments = {name: _bound(argument, values) for name, argument in instruction.arguments}
        known = _evaluated(instruction, arguments, values)
        if known is not None:
            return known
        of_complex = any(isinstance(item, Complex) for a in arguments.values() for item in _items(a))
        self._parts |= of_complex
        rule = (RULES_OF_COMPLEX if of_complex else RULES).get(instruction.op)
        try:
            result = rule(self, arguments) if rule is not None else NotImplemented
            if result is NotImplemented and of_complex:
                result = in_parts(self, instruction, values)
        except InputError:
            raise
        except _OF_WRONG_ARGUMENTS as error:
            what = f"{type(error).__name__}: {str(error)[:120]}".splitlines()[0]
            raise UnsupportedOperationError(
                instruction.op, f"has arguments that its rule cannot take ({what})"
            ) from error
        if result is None:
            raise UnsupportedOperationError(instruction.op, "has no rule for complex numbers")
        if result is NotImplemented:
            return self._opaque(instruction, arguments, values)
        return list(result) if isinstance(result, list | tuple) else [result]

    def _opaque(self, instruction: Instruction, arguments: dict[str, Any], values: Mapping[int, Item]) -> list[Item]:
        """An operation without a rule stays under its exported name; whoever needs a rule for it refuses it."""
        if instruction.op not in operations():
            raise UnsupportedOperationError(instruction.op, "is not known to deqops")
        operands = [
            self.as_dynamic(item) for argument in arguments.values() for item in _items(argument) if _is_tensor(item)
        ]
        metas = {number: _meta(item) for number, item in values.items()}
        try:
            results = execute(instruction, metas)
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError) as error:
            raise UnsupportedOperationError(
                instruction.op, f"has no shape rule here ({str(error).splitlines()[0]:.120})"
            ) from None
        if any(result.is_complex() for result in results):
            raise UnsupportedOperationError(instruction.op, "has no rule for its complex results")
        numbers = tuple(operand.number for operand in operands)
        below = NONE.union(*(operand.inputs for operand in operands))
        made: list[Item] = []
        for place, meta in enumerate(result.to("meta") for result in results):
            number = self._new()
            attributes: dict[str, Attribute] = {"output": place}
            self._append(
                Node(
                    instruction.op,
                    numbers,
                    attributes,
                    number,
                    tuple(meta.shape),
                    meta.dtype,
                    instruction.op,
                    NONE,
                )
            )
            made.append(Dynamic(number, meta, below))
        return made

    def _append(self, node: Node) -> None:
        self.nodes.append(node)
        self._made[node.output] = node
        if self._moving.intersection(node.operands):
            self._moving.add(node.output)

    def _new(self) -> int:
        self._count += 1
        return self._count - 1


def scalar_tensor(value: Any) -> Tensor:
    """A Python number as a 0-dimensional literal: float64, int64 or bool."""
    if isinstance(value, bool):
        return torch.tensor(value)
    if isinstance(value, int):
        return torch.tensor(value, dtype=torch.int64)
    if isinstance(value, float):
        return torch.tensor(value, dtype=torch.float64)
    raise ModelFileError(f"model file: a number was expected, found {type(value).__name__}")


def _bound(argument: Argument, values: Mapping[int, Item]) -> Any:
    """An argument over items: references become items, plain numbers stay."""
    if isinstance(argument, Ref):
        return values[argument.index]
    if isinstance(argument, tuple):
        return [_bound(item, values) for item in argument]
    return argument


def _items(argument: Any) -> list[Any]:
    if isinstance(argument, list):
        return [item for part in argument for item in _items(part)]
    return [argument]


def _is_tensor(item: Any) -> bool:
    return isinstance(item, Dynamic | Complex) or (isinstance(item, Known) and isinstance(item.value, Tensor))


def _meta(item: Item) -> Any:
    if isinstance(item, Dynamic):
        return item.meta
    if isinstance(item, Complex):
        return item.meta
    return item.value.to("meta") if isinstance(item.value, Tensor) else item.value


_FACTORIES = frozenset(
    f"aten.{name}"
    for name in [
        "zeros.default",
        "ones.default",
        "full.default",
        "zeros_like.default",
        "ones_like.default",
        "full_like.default",
        "new_zeros.default",
        "new_ones.default",
        "new_full.default",
        "arange.default",
        "arange.start",
        "arange.start_step",
        "eye.default",
        "eye.m",
        "scalar_tensor.default",
    ]
)
_UNDEFINED = frozenset({"aten.empty.memory_format", "aten.empty_like.default", "aten.new_empty.default"})
_MOVEMENTS = frozenset(
    f"aten.{name}"
    for name in [
        "view.default",
        "reshape.default",
        "expand.default",
        "expand_as.default",
        "permute.default",
        "transpose.int",
        "t.default",
        "mT.default",
        "mH.default",
        "matrix_H.default",
        "unsqueeze.default",
        "squeeze.default",
        "squeeze.dim",
        "squeeze.dims",
        "select.int",
        "slice.Tensor",
        "clone.default",
        "contiguous.default",
        "detach.default",
        "alias.default",
        "flatten.using_ints",
        "cat.default",
        "stack.default",
        "repeat.default",
        "index_select.default",
        "_unsafe_view.default",
        "lift_fresh.default",
        "lift_fresh_copy.default",
        "positive.default",
        "unflatten.int",
        "view_as.default",
        "reshape_as.default",
        "broadcast_to.default",
        "numpy_T.default",
        "adjoint.default",
        "swapaxes.default",
        "swapdims.default",
        "movedim.int",
        "moveaxis.int",
        "moveaxis.intlist",
        "movedim.intlist",
        "narrow.default",
        "chunk.default",
        "split.Tensor",
        "split.sizes",
        "split_with_sizes.default",
        "tensor_split.sections",
        "unbind.int",
        "concat.default",
        "concatenate.default",
        "index.Tensor",
        "gather.default",
        "flip.default",
        "roll.default",
        "tile.default",
        "fill.Scalar",
        "select_scatter.default",
        "slice_scatter.default",
        "tril.default",
        "triu.default",
    ]
)


def _evaluated(instruction: Instruction, arguments: dict[str, Any], values: Mapping[int, Item]) -> list[Item] | None:
    """The results where they are exactly known; None where they are not."""
    items = [item for argument in arguments.values() for item in _items(argument) if isinstance(item, Item)]
    used = NONE.union(*(item.inputs for item in items))
    if instruction.op in ("sym.size", "sym.numel"):
        metas = {ref: _meta(values[ref]) for ref in instruction.operands}
        return [Known(execute(instruction, metas)[0], used)]
    if instruction.op in _FACTORIES:
        concrete = {ref: _like(values[ref]) for ref in instruction.operands}
        return [_exactly(result, used) for result in execute(instruction, concrete)]
    if any(isinstance(item, Dynamic | Complex) for item in items) or instruction.op in _UNDEFINED:
        return None
    knowns = [item for item in items if isinstance(item, Known)]
    floating = any(isinstance(k.value, Tensor) and k.value.is_floating_point() for k in knowns)
    exact = instruction.op in _MOVEMENTS or instruction.op in _EXACT_COMPARISONS or instruction.op in _CASTS
    if floating and not exact:
        return None
    if instruction.op not in operations() and not instruction.op.startswith("sym."):
        return None
    try:
        results = execute(instruction, {ref: _value(values[ref]) for ref in instruction.operands})
    except (RuntimeError, IndexError, ValueError, TypeError) as error:
        message = str(error).splitlines()[0]
        raise InputError(f"operation {instruction.op}: {message:.200}; check shapes and index inputs") from None
    if any(isinstance(r, Tensor) and r.is_complex() for r in results):
        return None
    made_floats = not floating and any(isinstance(r, Tensor) and r.is_floating_point() for r in results)
    if (made_floats or instruction.op in _CASTS) and not _is_exact_cast(instruction, results[0], arguments):
        return None
    return [Known(result, used) for result in results]


_EXACT_COMPARISONS = frozenset(
    f"aten.{op}.{overload}" for op in ("eq", "ne", "lt", "le", "gt", "ge") for overload in ("Tensor", "Scalar")
)


_CASTS = frozenset(
    f"aten.{name}"
    for name in ("to.dtype", "to.dtype_layout", "to.device", "to.other", "_to_copy.default", "type_as.default")
)


def _is_exact_cast(instruction: Instruction, result: Any, arguments: dict[str, Any]) -> bool:
    """Whether a cast changed no value: integers, booleans or known floats that the new dtype has as well."""
    source = arguments.get("self")
    if instruction.op not in _CASTS or not isinstance(source, Known) or not isinstance(source.value, Tensor):
        return False
    before = source.value
    if before.dtype == torch.int64 and bool((before.abs() > 2**53).any()):
        return False  # the comparison below would round
    same = (result.to(torch.float64) == before.to(torch.float64)) | (result.isnan() & before.isnan())
    return bool(same.all())


def _exactly(result: Any, inputs: frozenset[int]) -> Item:
    is_complex = isinstance(result, Tensor) and result.is_complex()
    return Complex.known(result, inputs) if is_complex else Known(result, inputs)


def _value(item: Item) -> Any:
    return item.value if isinstance(item, Known) else item.meta


def _like(item: Item) -> Any:
    """Something with the item's shape and dtype on the CPU, for factories that take only these from it."""
    if isinstance(item, Known):
        return item.value
    return torch.empty((), dtype=item.meta.dtype).expand(item.meta.shape)
