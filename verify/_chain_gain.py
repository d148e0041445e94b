"""Proven l2 constants of chains: all slopes at once, by one multiplier a slope.

With `v = V (x, w)`, `y = Y (x, w)` and `|w_i| <= |v_i|` (`_chain.py`) and any T >= 0

    rho^2 |x|^2 - |y|^2 >= rho^2 |x|^2 - |y|^2 - sum_i T_i (v_i^2 - w_i^2) = (x, w)^T H (x, w),
    H = diag(rho^2, .., rho^2, T) - Y^T Y - V^T diag(T) V,

so that rho is a constant where H is positive semidefinite. T is found in floats (`_multipliers.py`); that H is positive
definite for it is verified (`_definite.py`) with the rounding of Y, V and H enclosed, which includes that of the block
of the w, without which nothing would be bounded. T is diagonal: full multipliers for one layer prove nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import _midrad as midrad
from ._chain import LARGEST, Chain, chain_of
from ._definite import is_positive_definite
from ._jacobian import Elementwise, Jacobian
from ._midrad import MidRad
from ._multipliers import Form, proposed_multipliers
from ._one_problem import distinct_problems, one_problem
from ._rounding import check_environment, sqrt_up

MOST_PROBLEMS = 64
"""Different problems of a batch up to which each gets multipliers of its own; with more there is no bound."""
LARGEST_CHECKED = 1024
"""Unknowns and open slopes of one problem together that the checker takes."""
ROOM = 1 + 2.0**-20
"""A published constant is this much above the proven one: the checker's own factor needs some."""
_MARGINS = (1e-9, 1e-7, 1e-5, 1e-3)  # relative, of rho^2
_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class ChainGain:
    """A proven l2 constant of every problem, and the multipliers that prove it.

    Attributes:
        upper: the constant.
        multipliers: one tensor for each elementwise function of the expression, in order: (1, *entries) where one does
            for all problems, else (problems, *entries); 0 where a slope is known, or not needed.
    """

    upper: float
    multipliers: tuple[Tensor, ...]


def chain_gain(
    jacobian: Jacobian, batch_dims: int, below: float = math.inf, largest: int = LARGEST
) -> ChainGain | None:
    """The best constant that one multiplier a slope gives; None where there is none, or none below `below`.

    Args:
        jacobian: the expression; normalisations in it make the result None.
        batch_dims: 1 where dimension 0 counts problems.
        below: what the constant is wanted below: it is given up on early where slopes show that it is not.
        largest: the most unknowns of one problem, its own and one for each slope that is not known exactly.
    """
    check_environment()
    same = distinct_problems(jacobian, batch_dims)
    if same is None or len(set(same)) > MOST_PROBLEMS:
        return None
    found: dict[int, tuple[float, Chain, Tensor]] = {}
    for number in sorted(set(same)):
        chain = chain_of(one_problem(jacobian, number, batch_dims), largest)
        bound = None if chain is None else _bounded(chain, below)
        if chain is None or bound is None or not bound[0] < below:
            return None
        found[number] = (bound[0], chain, bound[1])
    own = [_spread(jacobian, found[number][1], found[number][2], batch_dims) for number in same]
    if len(found) == 1:
        own = own[:1]
    together = tuple(torch.stack(parts) for parts in zip(*own, strict=True))
    return ChainGain(max(upper for upper, _, _ in found.values()), together)


def _spread(jacobian: Jacobian, chain: Chain, T: Tensor, batch_dims: int) -> list[Tensor]:
    """The multipliers in the shapes of the elementwise functions' values for one problem."""
    places = {number: (where, T[rows]) for (number, where), rows in zip(chain.places, chain.layers, strict=True)}
    spread = []
    for number, basis in enumerate(jacobian.bases):
        if not isinstance(basis, Elementwise):
            continue
        full = torch.zeros(math.prod(basis.shape[batch_dims:]), dtype=torch.float64)
        if number in places:
            where, values = places[number]
            full[where] = values
        spread.append(full.reshape(basis.shape[batch_dims:]))
    return spread


def _bounded(chain: Chain, below: float) -> tuple[float, Tensor] | None:
    """(rho, T) of one chain; None where none is proven, or slopes show that it is not below `below`."""
    if not chain.is_finite():
        return None
    form = Form(chain.Y.mid, chain.V.mid, chain.unknowns, chain.layers)
    if below < math.inf and not vertex_estimate(form, below) < below:
        return None
    if not chain.layers:
        T = torch.zeros(0, dtype=torch.float64)
    else:
        proposed = proposed_multipliers(form)
        if proposed is None:
            return None
        T = proposed
    square = form.least_square(T)
    return None if square is None or not square > 0 else _verified(chain, T, square)


def _verified(chain: Chain, T: Tensor, square: float) -> tuple[float, Tensor] | None:
    for margin in _MARGINS:
        wanted = square * (1 + margin)
        if math.isfinite(wanted) and is_positive_definite(_form(chain, T, wanted)):
            return float(sqrt_up(wanted)), T
    return None


def _form(chain: Chain, T: Tensor, square: float) -> MidRad:
    """Enclosure of H for `rho^2 = square`; T exact."""
    weighted = midrad.mul(chain.V, MidRad.exact(T[:, None]))
    inner = midrad.matmul(chain.V.apply_exact(lambda t: t.T), weighted)
    outer = midrad.matmul(chain.Y.apply_exact(lambda t: t.T), chain.Y)
    front = torch.full((chain.unknowns,), square, dtype=torch.float64)
    diagonal = MidRad.exact(torch.diag(torch.cat([front, T])))
    return midrad.sub(diagonal, midrad.add(inner, outer))


def vertex_estimate(form: Form, enough: float = math.inf) -> float:
    """The largest norm met among slopes in their intervals, or the first that is `enough`.

    No bound by multipliers is below it.
    """
    best = 0.0
    for start in (torch.ones, torch.zeros):
        best = _ascent(form, start(form.V.shape[0], dtype=torch.float64), best, enough)
    return best


def _ascent(form: Form, ends: Tensor, best: float, enough: float) -> float:
    """With w_i = e_i v_i, `w = (I - E V_w)^-1 E V_x x`; each round moves e_i to where its derivative points to."""
    n, last = form.unknowns, 0.0
    for _ in range(_ROUNDS if best < enough else 0):
        inner = torch.eye(len(ends), dtype=torch.float64) - ends[:, None] * form.V[:, n:]
        w = torch.linalg.solve_triangular(inner, ends[:, None] * form.V[:, :n], upper=False)
        J = form.Y[:, :n] + form.Y[:, n:] @ w
        if not J.numel() or not bool(J.isfinite().all()):
            break
        u, sizes, x = torch.linalg.svd(J, full_matrices=False)
        size = float(sizes[0])
        best = max(best, size)
        if not size > last * (1 + 1e-6) or best >= enough:
            break
        last = size
        v = form.V[:, :n] @ x[0] + form.V[:, n:] @ (w @ x[0])
        pulled = torch.linalg.solve_triangular(inner.T, (form.Y[:, n:].T @ u[:, 0])[:, None], upper=True)[:, 0]
        ends = torch.where(pulled * v < 0, -1.0, 1.0).to(torch.float64)
    return best
