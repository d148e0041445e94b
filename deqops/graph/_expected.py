"""What an export says of the tensors it takes: their dtypes and sizes.

It is only ever used to refuse, never to compute. The branches that a module takes by its sizes are those of the
export's own; a size that was left open may be another one where the file says that nothing was decided by it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deqops._errors import InputError
from deqops.graph._json import get
from deqops.graph._tensors import dtype_of

_SYMBOL = re.compile(r"Symbol\('(\w{1,40})'(?:, \w+=\w+)*\)")
_SIZE = r"\(?L(?:\[[\w']{1,80}\])+\.size\(\)\[\d+\]\)?"
_SAID_BY_RANGES = re.compile(rf"{_SIZE} == {_SIZE}|{_SIZE} (?:<=|<|>=|>) \d+|\d+ (?:<=|<|>=|>) {_SIZE}")
"""Guards that the ranges of the symbols, and their places among the inputs, say as well."""


@dataclass(frozen=True, slots=True)
class OpenSize:
    """A size that the export left open; `symbol` is None where it is computed from others."""

    symbol: str | None
    example: int | None
    lowest: int
    highest: int | None

    def has(self, size: int) -> bool:
        """Whether the size may be this one by itself."""
        return self.symbol is not None and self.lowest <= size and (self.highest is None or size <= self.highest)


@dataclass(frozen=True, slots=True)
class Expectation:
    """The dtype and the sizes that an input was exported with; None where the file says nothing of them."""

    dtype: torch.dtype | None
    sizes: tuple[int | OpenSize, ...] | None

    def check(self, name: str, leaf: Tensor) -> None:
        """Refuse another dtype, number of dimensions or fixed size: such may be constants of the graph."""
        if self.dtype is not None and leaf.dtype != self.dtype:
            raise InputError(f"{name}: got {leaf.dtype}, the operator was exported for {self.dtype}; convert it")
        if self.sizes is None:
            return
        got, fixed = tuple(leaf.shape), tuple(s if isinstance(s, int) else "any" for s in self.sizes)
        if len(got) != len(fixed) or any(e not in ("any", g) for e, g in zip(fixed, got, strict=True)):
            wanted = f"({', '.join(map(str, fixed))}{',' if len(fixed) == 1 else ''})"
            raise InputError(f"{name}: got shape {got}, the operator was exported for {wanted}; export it again")


class Expectations:
    """Those of all inputs, in order.

    Args:
        document: the export.
        graph: its graph.
        names: of the inputs' values.
    """

    def __init__(self, document: object, graph: dict[str, object], names: Sequence[str]) -> None:
        ranges = document.get("range_constraints") if isinstance(document, dict) else None
        guards = document.get("guards_code") if isinstance(document, dict) else None
        self._each = [_expectation(graph, name, ranges if isinstance(ranges, dict) else {}) for name in names]
        self._decides = not isinstance(guards, list) or not all(
            isinstance(guard, str) and len(guard) < 1000 and _SAID_BY_RANGES.fullmatch(guard) for guard in guards
        )

    def check(self, names: Sequence[str], leaves: Sequence[Tensor]) -> None:
        """Refuse tensors that the export was not made for.

        Raises:
            InputError: another dtype or shape, by name.
        """
        sizes: list[tuple[str, OpenSize, int]] = []
        for name, leaf, expected in zip(names, leaves, self._each, strict=True):
            expected.check(name, leaf)
            pairs = zip(expected.sizes or (), leaf.shape, strict=False)
            sizes += [(name, size, got) for size, got in pairs if isinstance(size, OpenSize)]
        if all(size.example == got for _, size, got in sizes):
            return
        found: dict[str | None, int] = {}
        for name, size, got in sizes:
            if self._decides or not size.has(got) or found.setdefault(size.symbol, got) != got:
                raise InputError(f"{name}: the export does not hold for a size of {got}; export it again with that")


def _expectation(graph: dict[str, object], name: str, ranges: dict[str, object]) -> Expectation:
    values = graph.get("tensor_values")
    meta = values.get(name) if isinstance(values, dict) else None
    if not isinstance(meta, dict):
        return Expectation(None, None)
    sizes = tuple(_size(entry, ranges) for entry in get(meta, "sizes", list))
    return Expectation(dtype_of(meta.get("dtype")), sizes)


def _size(entry: object, ranges: dict[str, object]) -> int | OpenSize:
    fixed = _integer(entry)
    if fixed is not None:
        return fixed
    expression = entry.get("as_expr") if isinstance(entry, dict) else None
    if not isinstance(expression, dict):
        return OpenSize(None, None, 0, None)
    text, example = expression.get("expr_str"), _integer(expression.get("hint"))
    found = _SYMBOL.fullmatch(text) if isinstance(text, str) else None
    limits = ranges.get(found.group(1)) if found else None
    if found is None or not isinstance(limits, dict):
        return OpenSize(None, example, 0, None)
    lowest, highest = limits.get("min_val"), limits.get("max_val")
    smallest = lowest if isinstance(lowest, int) and lowest > 2 else 0  # 2 is written where 0 and 1 are held the same
    return OpenSize(found.group(1), example, smallest, highest if isinstance(highest, int) else None)


def _integer(entry: object) -> int | None:
    value = entry.get("as_int") if isinstance(entry, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
