"""What slopes of layers that read others add to a bound: `sum_i |p_i (V_w w)_i|` by squares of p and of q.

`|p_i r_i| <= (p_i^2 / b_i + b_i r_i^2) / 2`, r = V_w w; and with `|w_j| <= |v_j|`, v = q + r, the squares of w are
bounded layer by layer, from the last: `v_j^2 <= (1 + s_j) q_j^2 + (1 + 1/s_j) r_j^2`, and a sum of squares of r by one
of squares of w, `A^T diag(.) A <= diag(d)` with d from the sums of each row's moduli. Any b, s and scales are sound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import _midrad as midrad
from ._chain import Chain
from ._midrad import MidRad
from ._rounding import add_up, div_up, matmul_up, mul_up


def squares_of_later_layers(chain: Chain, b: Tensor, share: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Upper bounds of the coefficients of `p_i^2` and of `q_i^2`, (m,) each; infinite where a layer reads itself.

    Args:
        chain: V, and which rows are a layer.
        b: (m,), above 0 where a layer reads others.
        share: (m,), the s above.
        scale: (m,), above 0, about the sizes of w: of the scales the bound is tightest for.
    """
    n, zero = chain.unknowns, torch.zeros_like(b)
    on_p, on_q, on_w = zero.clone(), zero.clone(), zero
    for rows in reversed(chain.layers):
        inside = chain.V.apply_exact(lambda t, rows=rows: t[rows, n:])  # type: ignore[misc]
        if bool((inside.magnitude()[:, rows.start :] > 0).any()):
            return torch.full_like(b, math.inf), torch.full_like(b, math.inf)
        own = on_w[rows]
        if not bool((inside.magnitude() > 0).any()):
            on_q[rows] = own
            continue
        on_p[rows] = div_up(0.5, b[rows])
        on_q[rows] = mul_up(own, add_up(1.0, share[rows]))
        squares = add_up(mul_up(b[rows], 0.5), mul_up(own, add_up(1.0, div_up(1.0, share[rows]))))
        on_w = add_up(on_w, _diagonal_above(inside, squares, scale))
    return on_p, on_q


def _diagonal_above(A: MidRad, weights: Tensor, scale: Tensor) -> Tensor:
    """d with `A^T diag(weights) A <= diag(d)`."""
    weighted = midrad.mul(MidRad.exact(weights[:, None]), A)
    gram = midrad.matmul(A.apply_exact(lambda t: t.T), weighted).magnitude()
    return div_up(matmul_up(gram, scale[:, None])[:, 0], scale)
