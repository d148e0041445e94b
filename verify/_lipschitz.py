"""`lipschitz_bound`: a proven Lipschitz constant of any traced operator."""

from __future__ import annotations

from typing import Any

from deqops.graph import check_independent, trace

from ._agreement import require_agreement
from ._best_gain import best_gain
from ._bound import Bound
from ._gain_estimate import gain_estimate
from ._impure import require_one_map
from ._input_box import middles
from ._local import followed_jacobian
from ._norm import Norm, as_norm
from ._problem import Problem
from ._region import Ball, Global, Region, check_kind
from ._request import Request, check_region


def lipschitz_bound(
    G: Any, y0: Any, *inputs: Any, norm: str | Norm = "l2", region: Region | None = None, batch_dims: int | None = None
) -> Bound:
    """Proven upper bound of the Lipschitz constant of `y -> G(y, *inputs)`.

    Args:
        G: what `deqops.graph.trace` takes.
        y0: example state.
        inputs: the operator's inputs; an `InputBox` for all its values.
        norm: "l1", "l2", "linf" or a `Norm`.
        region: `Global()` (None), a `Ball`, in its own norm where it names one, else in `norm`, or a `Box`.
        batch_dims: as in `certify`.

    Returns:
        Bound: `upper` is proven for every problem, the least that the strategies of `_best_gain.py` gave; `method`
        names which: "composition" (products of norms), "multipliers" (plain l2, all slopes of a chain of linear maps at
        once, up to 1024 unknowns and slopes), "interval Jacobian" and (plain l2) "slope spread" (up to 1024 unknowns),
        "coupled slopes" (plain l2 on a region, slopes that follow one state, up to some 180 unknowns on a box and 100
        on a ball). `contributions` are the gains of the parts, whichever it was. `lower_estimate` is the largest gain
        of the operator's own Jacobian that a few seeded states and directions showed, in the same norm
        (`gain_estimate`); it may be far below the constant, enters no verdict, and is 0 where the operator has no
        derivatives.

    Raises:
        UnsupportedOperationError: an operation has no rule, by name; or the graph as it was read is not what the
            program computes (`_agreement.py`).
        InputError: an argument does not fit.
    """
    chosen = as_norm(norm)
    check_kind(region)
    operator = trace(G, y0, *middles(inputs), batch_dims=batch_dims)
    require_one_map(operator.impure)
    problem = Problem(operator, y0, inputs)
    check_independent(problem.written_out)
    Request(chosen, None, "auto", 1.0).check_weights(problem)
    require_agreement(operator, problem, inputs)
    where = check_region(region or Global(), problem)
    own = (where.norm if isinstance(where, Ball) else None) or chosen
    if isinstance(where, Global):
        gain = best_gain(problem.jacobian, chosen, problem.batch_dims)
    else:
        jacobian, forms = followed_jacobian(problem, where, own)
        gain = best_gain(jacobian, chosen, problem.batch_dims, forms)
    estimate = gain_estimate(problem, middles(inputs), chosen, where)
    return Bound(gain.upper, min(estimate, gain.upper), gain.method, gain.contributions)
