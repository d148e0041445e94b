"""Operations of complex values, by the same operations of their real and imaginary parts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deqops.graph._items import NONE, Complex, Dynamic, Item, Known, Real
from deqops.graph._program import Argument, Instruction, Ref, references

if TYPE_CHECKING:
    from deqops.graph._lowering import Lowering

_LINEAR = frozenset(
    f"aten.{name}"
    for name in """view.default reshape.default expand.default expand_as.default permute.default transpose.int
    t.default mT.default unsqueeze.default squeeze.default squeeze.dim squeeze.dims select.int slice.Tensor
    clone.default contiguous.default detach.default alias.default flatten.using_ints cat.default stack.default
    repeat.default index_select.default _unsafe_view.default lift_fresh.default lift_fresh_copy.default
    positive.default unflatten.int view_as.default reshape_as.default broadcast_to.default swapaxes.default
    swapdims.default movedim.int movedim.intlist moveaxis.int moveaxis.intlist narrow.default chunk.default
    split.Tensor split.sizes split_with_sizes.default tensor_split.sections unbind.int concat.default
    concatenate.default index.Tensor gather.default flip.default roll.default tile.default
    select_scatter.default slice_scatter.default tril.default triu.default neg.default sum.default
    sum.dim_IntList mean.default mean.dim copy.default index_put.default index_add.default where.self
    index_copy.default diagonal.default fft_fftshift.default fft_ifftshift.default""".split()  # noqa: SIM905 - a list that reads as one
)
"""Linear in all operands together: a real one beside a complex one has imaginary part 0."""

_PRODUCTS = frozenset(
    f"aten.{name}"
    for name in """mul.Tensor mul.Scalar multiply.Tensor multiply.Scalar matmul.default mm.default bmm.default
    mv.default dot.default einsum.default outer.default tensordot.default inner.default
    """.split()  # noqa: SIM905 - a list that reads as one
)
"""Linear in each operand."""

_CHOOSING = ("index", "indices", "condition")
"""Arguments that are the same for both parts."""

_WRITING = re.compile(r"aten\.(copy|select_scatter|slice_scatter|index_put|index_add|index_copy)\.default")

_SUMS = frozenset(f"aten.{name}.{kind}" for name in ("add", "sub", "subtract", "rsub") for kind in ("Tensor", "Scalar"))
_QUOTIENTS = frozenset(f"aten.{name}.{kind}" for name in ("div", "true_divide") for kind in ("Tensor", "Scalar"))


def in_parts(low: Lowering, instruction: Instruction, values: Mapping[int, Item]) -> list[Item] | None:
    """The results of an operation with a complex operand; None where parts do not tell.

    Raises:
        UnsupportedOperationError: the operation has no such rule.
    """
    op = instruction.op
    if any(isinstance(argument, torch.dtype) for _, argument in instruction.arguments):
        return None  # a real one would drop the imaginary part
    instruction, values = _told_apart(instruction, values)
    held = [number for number in instruction.operands if isinstance(values[number], Complex)]
    if op in _PRODUCTS or (op in _QUOTIENTS and held == _itself(instruction)):
        return _product(low, instruction, values, held)
    if op in _SUMS or (op in _LINEAR and _keeps(instruction, held)):
        return _both(low, instruction, values)
    return None


def _told_apart(instruction: Instruction, values: Mapping[int, Item]) -> tuple[Instruction, dict[int, Item]]:
    """The same with a number of its own for each operand, so that z * z has two."""
    own: dict[int, Item] = {}

    def renamed(argument: Argument) -> Argument:
        if isinstance(argument, Ref):
            own[len(own)] = values[argument.index]
            return Ref(len(own) - 1)
        return tuple(map(renamed, argument)) if isinstance(argument, tuple) else argument

    arguments = tuple((name, renamed(argument)) for name, argument in instruction.arguments)
    return replace(instruction, arguments=arguments), own


def _keeps(instruction: Instruction, held: list[int]) -> bool:
    """Whether what is written to can hold imaginary parts."""
    return not _WRITING.fullmatch(instruction.op) or set(_itself(instruction)) <= set(held)


def _itself(instruction: Instruction) -> list[int]:
    """The number of the operand `self`."""
    return [argument.index for name, argument in instruction.arguments if name == "self" and isinstance(argument, Ref)]


def with_complex_numbers(
    instruction: Instruction, values: Mapping[int, Item]
) -> tuple[Instruction, Mapping[int, Item]]:
    """Python's complex numbers among the arguments as values of their own, numbered from -1 down."""
    given = {name: number for name, number in instruction.arguments if isinstance(number, complex)}
    if not given:
        return instruction, values
    places = {name: -1 - k for k, name in enumerate(given)}
    own = {
        places[name]: Complex.known(torch.tensor(number, dtype=torch.complex128), NONE)
        for name, number in given.items()
    }
    arguments = tuple((name, Ref(places[name]) if name in places else value) for name, value in instruction.arguments)
    return replace(instruction, arguments=arguments), {**values, **own}


def _product(low: Lowering, instruction: Instruction, values: Mapping[int, Item], held: list[int]) -> list[Item]:
    """The sum over all choices of parts, i^k times the product of the chosen ones, k of them imaginary."""
    terms: list[list[Dynamic]] = [[], []]
    for choice in product((0, 1), repeat=len(held)):
        chosen = {**values, **{n: _part(values[n], part) for n, part in zip(held, choice, strict=True)}}
        (term,) = (low.as_dynamic(result) for result in low.results(instruction, chosen))
        turns = sum(choice) % 4
        terms[turns % 2].append(low.emit("neg", [term], torch.neg) if turns >= 2 else term)
    return [Complex(*(reduce(lambda a, b: low.emit("add", [a, b], torch.add), part) for part in terms))]


def _both(low: Lowering, instruction: Instruction, values: Mapping[int, Item]) -> list[Item]:
    """The operation of the real parts, and that of the imaginary ones."""
    real = {number: _part(item, 0) for number, item in values.items()}
    chosen = {
        reference.index
        for name, argument in instruction.arguments
        if name in _CHOOSING
        for reference in references(argument)
    }
    imaginary = {n: item if n in chosen else _part(item, 1) for n, item in values.items()}
    results = [low.results(instruction, real), low.results(_of_imaginary(instruction, values), imaginary)]
    return [Complex(*_real(pair)) for pair in zip(*results, strict=True)]


def _of_imaginary(instruction: Instruction, values: Mapping[int, Item]) -> Instruction:
    """Without the number that is added; numbers elsewhere are sizes, places and factors."""
    if instruction.op not in _SUMS:
        return instruction
    arguments = [(n, 0 if n == "other" and _is_number(a, values) else a) for n, a in instruction.arguments]
    return replace(instruction, arguments=tuple(arguments))


def _is_number(argument: Argument, values: Mapping[int, Item]) -> bool:
    item = values[argument.index] if isinstance(argument, Ref) else Known(argument)
    return isinstance(item, Known) and not isinstance(item.value, Tensor)


def _part(item: Item, part: int) -> Item:
    """The real (0) or the imaginary part (1): 0 of a real tensor, whatever its dtype."""
    if isinstance(item, Complex):
        return item.parts[part]
    value = item.meta if isinstance(item, Dynamic) else item.value
    if not part or not isinstance(value, Tensor):
        return item
    return Known(torch.zeros(value.shape, dtype=value.dtype), item.inputs)


def _real(items: tuple[Item, ...]) -> list[Real]:
    if any(isinstance(item, Complex) for item in items):
        raise RuntimeError("a part of a complex value is complex")
    return [item for item in items if not isinstance(item, Complex)]
