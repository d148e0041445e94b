"""How the slopes of a chain move together over a region: each beside a line in the state.

`_chain.py` writes every slope as `c_i + h_i sigma_i` with `|sigma_i| <= 1` and forgets that all sigma are functions of
one state. Here, with `y - c = half t` and t in the unit ball of the region's norm,

    sigma_i(y) in  middle_i + rows_i . t  +- rest_i,

from the linear form of the function's argument (`_linear_form.py`) and a line beside its derivative (`_pieces.py`).
Which line is a choice: any is sound.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._chain import Chain
from ._jacobian import Elementwise, Function, Jacobian
from ._linear_form import LinearForm, LinearForms
from ._midrad import MidRad
from ._norm import Order
from ._pieces import Pieces, line, pieces, slopes_at
from ._rounding import add_up, sum_up


@dataclass(frozen=True, eq=False)
class Layer:
    """The slopes of one elementwise function that a chain holds open, (k,) each.

    Attributes:
        function: s; None where the slopes are known by their ranges alone, or its argument's form is not known.
        form: of its argument, rows (k, n) in t.
        pieces: of s, over what the argument's form leaves.
        middle: c.
        half: h, above 0.
    """

    function: Function | None
    form: LinearForm | None
    pieces: Pieces | None
    middle: Tensor
    half: Tensor


@dataclass(frozen=True, eq=False)
class Lines:
    """`sigma_i in middle_i + rows_i . t +- rest_i`: (m,), (m, n), (m,), exact numbers."""

    middle: Tensor
    rows: Tensor
    rest: Tensor


@dataclass(frozen=True, eq=False)
class Coupling:
    """The chain of one problem and the layers of its slopes; t is in the unit ball of `order`."""

    chain: Chain
    layers: tuple[Layer, ...]
    order: Order

    @staticmethod
    def of(chain: Chain, jacobian: Jacobian, forms: LinearForms, number: int | None) -> Coupling:
        """That of a problem.

        Args:
            chain: the problem's.
            jacobian: the expression of this problem alone.
            forms: of the whole batch.
            number: of the problem; None where there is no batch.
        """
        half = forms.reach.half[number if number is not None and len(forms.reach.half) > 1 else 0]
        layers = []
        for basis_number, places in chain.places:
            basis = jacobian.bases[basis_number]
            if not isinstance(basis, Elementwise):
                raise ValueError("open slopes belong to elementwise functions")
            form = None if basis.function is None else forms.of_argument.get(basis.function.argument)
            own = None if form is None else _entries(form, number, places, half)
            known = None if own is None or basis.function is None else _pieces(basis.function, own)
            slopes = _slopes(basis, places)
            layers.append(Layer(basis.function, own, known, slopes.mid, slopes.rad))
        return Coupling(chain, tuple(layers), forms.reach.order)

    def lines(self, t: Tensor, above: Tensor) -> Lines:
        """Lines that are near the slopes at the state of t, from above where `above` says so, else from below."""
        parts = []
        for layer, rows in zip(self.layers, self.chain.layers, strict=True):
            parts.append(_layer_lines(layer, t, above[rows]))
        return Lines(*(torch.cat([getattr(part, name) for part in parts]) for name in ("middle", "rows", "rest")))

    def sigma_estimate(self, t: Tensor) -> Tensor:
        """About the sigma at the state of t, (m,)."""
        parts = []
        for layer in self.layers:
            if layer.function is None or layer.form is None:
                parts.append(torch.zeros_like(layer.middle))
                continue
            form = layer.form
            d = torch.maximum(form.low, torch.minimum(form.rows @ t + form.offset, form.high))
            slope = slopes_at(layer.function, form.center, d)
            parts.append(((slope - layer.middle) / layer.half).clamp(-1, 1))
        return torch.cat(parts)


def _pieces(function: Function, form: LinearForm) -> Pieces:
    return pieces(function, form.center, form.low, form.high)


def _slopes(basis: Elementwise, places: Tensor) -> MidRad:
    lower, upper = (
        torch.as_tensor(end, dtype=torch.float64).expand(basis.shape).reshape(-1)[places]
        for end in (basis.lower, basis.upper)
    )
    return MidRad.from_bounds(lower, upper)


def _entries(form: LinearForm, number: int | None, places: Tensor, half: Tensor) -> LinearForm:
    """The form at some entries of one problem, its rows in t; what multiplying by `half` rounds joins the rest."""

    def own(x: Tensor) -> Tensor:
        return (x if number is None else x[number]).reshape(-1)[places]

    chosen = (form.rows if number is None else form.rows[number]).reshape(-1, form.rows.shape[-1])[places]
    rows = midrad.mul(MidRad.exact(chosen), MidRad.exact(half))
    rest = add_up(own(form.rest), sum_up(rows.rad, dim=-1))
    center = form.center.apply_exact(own)
    return LinearForm(rows.mid, own(form.offset), rest, center, own(form.low), own(form.high))


def _layer_lines(layer: Layer, t: Tensor, above: Tensor) -> Lines:
    count, none = len(layer.middle), torch.zeros_like(layer.middle)
    independent = Lines(none, torch.zeros(count, len(t), dtype=torch.float64), torch.ones_like(none))
    if layer.pieces is None or layer.form is None:
        return independent
    form, half = layer.form, MidRad.exact(layer.half)
    touching = torch.maximum(form.low, torch.minimum(form.rows @ t + form.offset, form.high))
    b, e = line(layer.pieces, touching, above)
    steep = MidRad.exact(b)
    rows = midrad.div(midrad.mul(MidRad.exact(form.rows), MidRad.exact(b[:, None])), MidRad.exact(layer.half[:, None]))
    moved = midrad.add(e, midrad.mul(steep, MidRad(form.offset, form.rest)))
    sigma = midrad.div(midrad.sub(moved, MidRad.exact(layer.middle)), half)
    rest = add_up(sigma.rad, sum_up(rows.rad, dim=-1))
    found = rest.isfinite() & sigma.mid.isfinite() & rows.mid.isfinite().all(dim=-1)
    return Lines(
        torch.where(found, sigma.mid, independent.middle),
        torch.where(found[:, None], rows.mid, independent.rows),
        torch.where(found, rest, independent.rest),
    )
