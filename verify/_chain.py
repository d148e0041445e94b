"""A chain of linear maps and slopes as one linear map with bounded unknowns.

With slopes d_i in [a_i, b_i], `d_i = c_i + r_i e_i` and `|e_i| <= 1`. A value `u_i = d_i v_i` is `c_i v_i + r_i w_i`
for `w_i = e_i v_i`, so that all pre-activations and the result are linear in the state's difference x and the w:

    v = V (x, w),  y = Y (x, w),  |w_i| <= |v_i|,

V's row of a pre-activation reading only w of earlier layers. Nothing is lost: every choice of w with `|w_i| <= |v_i|`
comes from slopes in the intervals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._jacobian import Combination, Elementwise, Jacobian, Largest, Normalised, Sorted, StateLeaf, Subtotal
from ._linear import LinearMap
from ._midrad import MidRad
from ._stack import Stack

LARGEST = 1024
"""The most unknowns x and w of one problem together: H below is a dense matrix of that order."""

LARGEST_ENTRIES = 2**24
"""Numbers at hand while all unknowns are pushed forward."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Y and V, enclosed, with what the unknowns are.

    Attributes:
        Y: (outputs, n + m), n unknowns x, m unknowns w.
        V: (m, n + m), one row for each w.
        unknowns: n.
        layers: the rows of V that belong to one elementwise function, in the order of computation.
        places: for each of these the number of its basis value and which of its entries have a w, flat.
    """

    Y: MidRad
    V: MidRad
    unknowns: int
    layers: tuple[slice, ...]
    places: tuple[tuple[int, Tensor], ...]

    def is_finite(self) -> bool:
        """Whether all entries are."""
        return self.Y.is_finite() and self.V.is_finite()


@dataclass(frozen=True, eq=False)
class _Layer:
    """Centres and half-widths of one function's slopes, entry by entry, and where a half-width is not 0."""

    center: Tensor
    half: Tensor
    active: Tensor


def chain_of(jacobian: Jacobian, largest: int = LARGEST) -> Chain | None:
    """The chain of an expression of one problem; None where it is too large, or has normalisations or open slopes."""
    needed = needed_bases(jacobian)
    layers: dict[int, _Layer] = {}
    for number in needed:
        basis = jacobian.bases[number]
        if isinstance(basis, Normalised | Largest | Sorted):
            return None
        if isinstance(basis, Elementwise):
            layers[number] = _layer(basis)
    if any(isinstance(stage, Stack) for one in _maps(jacobian, needed) for stage in one.stages):
        return None
    if not all(bool((layer.half.isfinite() & layer.center.isfinite()).all()) for layer in layers.values()):
        return None
    leaves = sum(math.prod(basis.shape) for basis in jacobian.bases if isinstance(basis, StateLeaf))
    size = leaves + sum(int(layer.active.sum()) for layer in layers.values())
    if size > largest or size * _widest(jacobian, needed) > LARGEST_ENTRIES:
        return None
    return _Columns(jacobian, needed, layers, leaves, size).chain()


def needed_bases(jacobian: Jacobian) -> list[int]:
    """The numbers of the basis values that the result depends on, in order."""
    found = {k for output in jacobian.outputs for k in output.terms}
    for number in range(len(jacobian.bases) - 1, -1, -1):
        basis = jacobian.bases[number]
        if number in found and not isinstance(basis, StateLeaf):
            found |= set(basis.source.terms)
    return sorted(found)


def _layer(basis: Elementwise) -> _Layer:
    lower, upper = (
        torch.as_tensor(end, dtype=torch.float64).expand(basis.shape).reshape(-1) for end in (basis.lower, basis.upper)
    )
    slopes = MidRad.from_bounds(lower, upper)
    return _Layer(slopes.mid, slopes.rad, slopes.rad != 0)


def _maps(jacobian: Jacobian, needed: list[int]) -> list[LinearMap]:
    bases = [jacobian.bases[number] for number in needed]
    sources = [basis.source for basis in bases if not isinstance(basis, StateLeaf)]
    return [one for part in (*sources, *jacobian.outputs) for several in part.terms.values() for one in several]


def _widest(jacobian: Jacobian, needed: list[int]) -> int:
    """The most numbers at hand while one column is pushed forward."""
    return max((one.widest() for one in _maps(jacobian, needed)), default=0)


class _Columns:
    """Pushes the unknowns forward through the basis values, one column each."""

    def __init__(
        self, jacobian: Jacobian, needed: list[int], layers: dict[int, _Layer], leaves: int, size: int
    ) -> None:
        self._jacobian, self._size, self._leaves = jacobian, size, leaves
        self._values: dict[int, MidRad] = {}
        self._rows: list[MidRad] = []
        self._places: list[tuple[int, Tensor]] = []
        self._slices: list[slice] = []
        self._next = leaves
        leaf_start = 0
        for number, basis in enumerate(jacobian.bases):
            if isinstance(basis, StateLeaf):
                self._values[number] = self._unit(basis.shape, leaf_start)
                leaf_start += math.prod(basis.shape)
            elif number in layers and isinstance(basis, Elementwise):
                self._values[number] = self._elementwise(number, basis, layers[number])
            elif number in needed and isinstance(basis, Subtotal):
                self._values[number] = self._forward(basis.source)

    def chain(self) -> Chain:
        """What has been found."""
        outputs = [self._flat(self._forward(output)) for output in self._jacobian.outputs]
        none = torch.zeros(0, self._size, dtype=torch.float64)
        return Chain(
            _stacked(outputs),
            _stacked(self._rows) if self._rows else MidRad(none, none),
            self._leaves,
            tuple(self._slices),
            tuple(self._places),
        )

    def _unit(self, shape: tuple[int, ...], start: int) -> MidRad:
        count = math.prod(shape)
        own = torch.zeros(count, self._size, dtype=torch.float64)
        own[torch.arange(count), start + torch.arange(count)] = 1.0
        return MidRad.exact(own.reshape(*shape, self._size))

    def _elementwise(self, number: int, basis: Elementwise, layer: _Layer) -> MidRad:
        v = self._flat(self._forward(basis.source))
        value = midrad.mul(v, MidRad.exact(layer.center[:, None]))
        where = layer.active.nonzero()[:, 0]
        if len(where):
            own = torch.zeros_like(value.mid)
            own[where, self._next + torch.arange(len(where))] = layer.half[where]
            value = midrad.add(value, MidRad.exact(own))
            self._rows.append(v.apply_exact(lambda t: t[where]))
            self._places.append((number, where))
            row = self._next - self._leaves
            self._slices.append(slice(row, row + len(where)))
            self._next += len(where)
        return value.apply_exact(lambda t: t.reshape(*basis.shape, self._size))

    def _forward(self, combination: Combination) -> MidRad:
        total = MidRad.exact(torch.zeros(*combination.shape, self._size, dtype=torch.float64))
        for k, maps in combination.terms.items():
            for one in maps:
                total = midrad.add(total, one.apply(self._values[k]))
        return total

    def _flat(self, value: MidRad) -> MidRad:
        return value.apply_exact(lambda t: t.reshape(-1, self._size))


def _stacked(parts: list[MidRad]) -> MidRad:
    return MidRad(torch.cat([part.mid for part in parts]), torch.cat([part.rad for part in parts]))
