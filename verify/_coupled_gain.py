"""Proven local l2 constants of chains whose slopes move together: the Jacobian as an affine function of the state.

Over a convex region a constant is any rho with `u^T J(y) x <= rho (|u|^2 + |x|^2) / 2` for almost every y of it and all
u, x. By `_chain.py`, with `p = Y_w^T u`, `q = V_x x`, `w = sigma v`, `v = q + V_w w`,

    u^T J(y) x = u^T Y_x x + sum_i p_i sigma_i q_i + sum_i p_i sigma_i (V_w w)_i,

and `sigma_i = middle_i + rows_i . t + r_i`, `|r_i| <= rest_i`, t in a unit ball (`_coupling.py`). Quadratic forms in
`(u, x)` bound each part:

1. `middle` as it stands;
2. `sum_k t_k u^T G_k x`, `u^T G_k x = sum_i p_i rows_ik q_i`: over a box by `sum_k (|A_k^T u|^2 + |C_k^T x|^2) / 2`,
   `A_k C_k^T = G_k` (the matrix cube of Ben-Tal and Nemirovski, *On tractable approximations of uncertain linear matrix
   inequalities affected by interval uncertainty*, SIAM J. Optim. 12, 2002), over an l2 ball by Cauchy and Schwarz;
3. `rest_i |p_i q_i| <= rest_i (a_i p_i^2 + q_i^2 / a_i) / 2`;
4. `|p_i (V_w w)_i| <= (p_i^2 / b_i + b_i (V_w w)_i^2) / 2`, the second part bounded through `|w_j| <= |v_j|`, layer by
   layer from the last.

The numbers in these come from `_coupling_search.py`; that `rho / 2 I` less the sum of all forms is positive definite is
verified, with the rounding of all of them enclosed. Other than a certificate's multipliers this also knows which slopes
cannot be large at once.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from . import _midrad as midrad
from ._chain import Chain, chain_of
from ._chain_gain import MOST_PROBLEMS
from ._coupling import Coupling
from ._coupling_search import Choice, proposal
from ._definite import is_positive_definite
from ._jacobian import Jacobian
from ._later_layers import squares_of_later_layers
from ._linear_form import LinearForms
from ._midrad import MidRad
from ._one_problem import distinct_problems, one_problem
from ._rounding import add_up, check_environment, div_up, mul_up, sum_up

LARGEST_WORK = 2.0**30
"""Multiplications of what follows the state, over all problems, up to which this is done: some seconds."""
_MARGINS = (1e-9, 1e-7, 1e-5)


def coupled_gain(jacobian: Jacobian, forms: LinearForms, batch_dims: int, below: float = math.inf) -> float | None:
    """The constant of all problems; None where there is none, or none below `below`.

    Args:
        jacobian: the expression over a region, as `followed_jacobian` gives it.
        forms: how its arguments follow the state.
        batch_dims: 1 where dimension 0 counts problems.
        below: what the constant is wanted below.
    """
    check_environment()
    same = distinct_problems(jacobian, batch_dims)
    if same is None or len(same) > MOST_PROBLEMS:
        return None
    worst = 0.0
    for number in range(len(same)):
        one = one_problem(jacobian, number, batch_dims)
        chain = chain_of(one)
        if chain is None or not chain.layers or not chain.is_finite():
            return None
        if _work(chain, forms.reach.order) * len(same) > LARGEST_WORK:
            return None
        found = _bounded(Coupling.of(_short(chain), one, forms, number if batch_dims else None), below)
        if found is None:
            return None
        worst = max(worst, found)
    return worst


def _short(chain: Chain) -> Chain:
    """The chain without outputs that are 0 throughout."""
    kept = (chain.Y.magnitude() != 0).any(dim=1)
    return replace(chain, Y=chain.Y.apply_exact(lambda t: t[kept])) if bool(kept.any()) else chain


def _work(chain: Chain, order: str) -> float:
    """Over a ball the G_k stand in (u, x) together, over a box apart."""
    both = chain.unknowns * float(chain.unknowns + chain.Y.shape[0]) ** 3
    return both if order == "l2" else both / 8


def _bounded(coupling: Coupling, below: float) -> float | None:
    choice = proposal(coupling, below)
    if choice is None:
        return None
    total = _total(coupling, choice)
    for margin in _MARGINS:
        rho = choice.rho * (1 + margin)
        if rho < below and is_positive_definite(_less(rho / 2, total)):
            return rho
    return None


def _less(half: float, total: MidRad) -> MidRad:
    return midrad.sub(MidRad.exact(half * torch.eye(total.shape[0], dtype=torch.float64)), total)


def _total(coupling: Coupling, choice: Choice) -> MidRad:
    """Enclosure of a symmetric matrix whose form is at least `u^T J(y) x` for almost every y."""
    chain, lines, n = coupling.chain, choice.lines, coupling.chain.unknowns
    first, second = chain.Y.apply_exact(lambda t: t[:, :n]), chain.Y.apply_exact(lambda t: t[:, n:])
    inner = chain.V.apply_exact(lambda t: t[:, :n])
    on_p, on_q = (
        add_up(mul_up(own, 0.5), later)
        for own, later in zip(
            (mul_up(lines.rest, choice.a), div_up(lines.rest, choice.a)),
            squares_of_later_layers(chain, choice.b, choice.share, choice.scale),
            strict=True,
        )
    )
    middle = midrad.matmul(second, midrad.mul(MidRad.exact(lines.middle[:, None]), inner))
    cross = midrad.add(first, middle).apply_exact(lambda t: t / 2)
    return midrad.add(
        _blocks(_square(_transposed(second), on_p), cross, _square(inner, on_q)),
        _of_the_state(coupling.order, _forms(second, inner, lines.rows), choice.factors),
    )


def _transposed(a: MidRad) -> MidRad:
    return a.apply_exact(lambda t: t.mT)


def _square(A: MidRad, weights: Tensor) -> MidRad:
    """`A^T diag(weights) A`."""
    return midrad.matmul(_transposed(A), midrad.mul(MidRad.exact(weights[:, None]), A))


def _blocks(top: MidRad, cross: MidRad, bottom: MidRad) -> MidRad:
    def put(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        return torch.cat([torch.cat([a, b], dim=-1), torch.cat([b.mT, c], dim=-1)], dim=-2)

    return MidRad(put(top.mid, cross.mid, bottom.mid), put(top.rad, cross.rad, bottom.rad))


# --------------------------------------------------------------------------------- the part that follows the state


def _forms(second: MidRad, inner: MidRad, rows: Tensor) -> MidRad:
    """The G_k, (n, outputs, n)."""
    scaled = midrad.mul(MidRad.exact(rows.T[:, :, None]), inner.apply_exact(lambda t: t[None]))
    return midrad.matmul(second.apply_exact(lambda t: t[None]), scaled)


def _of_the_state(order: str, G: MidRad, factors: tuple[Tensor, Tensor]) -> MidRad:
    """Enclosure of a matrix whose form is at least `sum_k t_k u^T G_k x` for every t in the unit ball."""
    return _over_ball(G, *factors) if order == "l2" else _over_cube(G, *factors)


def _over_cube(G: MidRad, A: Tensor, C: Tensor) -> MidRad:
    """`G_k = A_k C_k^T + E_k`: `2 |u^T G_k x| <= |A_k^T u|^2 + |C_k^T x|^2 + ||E_k|| (|u|^2 + |x|^2)`."""
    sides = [MidRad.exact(side.permute(1, 0, 2).reshape(side.shape[1], -1)) for side in (A, C)]
    squares = [midrad.matmul(side, _transposed(side)) for side in sides]
    none = MidRad.exact(torch.zeros(A.shape[1], C.shape[1], dtype=torch.float64))
    errors = midrad.sub(G, midrad.matmul(MidRad.exact(A), MidRad.exact(C.mT)))
    return _shifted(_blocks(squares[0], none, squares[1]).apply_exact(lambda t: t / 2), errors)


def _over_ball(G: MidRad, L: Tensor, D: Tensor) -> MidRad:
    """With F_k the form of G_k in (u, x), `F_k = sym(L D_k) + E_k`.

    `sum_k t_k F_k <= (L L^T + sum_k D_k^T D_k) / 2 + sum_k ||E_k|| I`.
    """
    count, m, n = G.shape
    zero = [MidRad.exact(torch.zeros(count, size, size, dtype=torch.float64)) for size in (m, n)]
    F = _blocks(zero[0], G.apply_exact(lambda t: t / 2), zero[1])
    product = midrad.matmul(MidRad.exact(L), MidRad.exact(D))
    symmetric = midrad.add(product, _transposed(product)).apply_exact(lambda t: t / 2)
    stacked = D.reshape(-1, D.shape[-1])
    squares = midrad.add(
        midrad.matmul(MidRad.exact(L), MidRad.exact(L.T)), midrad.matmul(MidRad.exact(stacked.T), MidRad.exact(stacked))
    )
    return _shifted(squares.apply_exact(lambda t: t / 2), midrad.sub(F, symmetric))


def _shifted(matrix: MidRad, errors: MidRad) -> MidRad:
    """With `sum_k ||E_k||` on the diagonal: of E in (u, x), more than enough for the same of `u^T E x`.

    `||E||^2` is at most the largest `sum_j |e_ij|` times the largest `sum_i |e_ij|`; the larger of them is taken.
    """
    sizes = errors.magnitude()
    largest = torch.maximum(*(sum_up(sizes, dim=dim).amax(dim=-1) for dim in (-1, -2)))
    return midrad.add(matrix, MidRad.exact(float(sum_up(largest)) * torch.eye(matrix.shape[0], dtype=torch.float64)))
