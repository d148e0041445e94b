"""What `certify` and `check` say of a trained operator, as plain numbers."""

from __future__ import annotations

import time
from typing import Any

import torch


def verdict_of(operator: Any, state: Any, inputs: tuple[Any, ...], batch_dims: int, **choices: Any) -> dict[str, Any]:
    """Certify, and check what was proven.

    Args:
        operator: G(state, *inputs).
        state: where Picard's iteration starts.
        inputs: of the operator.
        batch_dims: as for `certify`.
        **choices: norm, region, theorem, budget and the like, as for `certify`.

    Returns:
        dict[str, Any]: "verdict", "theorem", "rate", "norm", "claim", "radius" (claims about a ball), "reason",
        "accepted" (None where nothing was proven), "seconds" (certify alone, wall time).
    """
    from deqops.verify import Ball, Verdict, certify, check

    begin = time.perf_counter()
    certificate = certify(operator, state, *inputs, batch_dims=batch_dims, **choices)
    seconds = time.perf_counter() - begin
    found: dict[str, Any] = {
        "verdict": certificate.verdict.value,
        "theorem": certificate.theorem,
        "rate": certificate.rate,
        "norm": str(certificate.norm) if certificate.norm is not None else None,
        "claim": certificate.claim.describe(),
        "reason": certificate.reason,
        "seconds": seconds,
        "accepted": None,
    }
    if isinstance(certificate.region, Ball):
        found["radius"] = certificate.region.radius
    if certificate.verdict is not Verdict.UNKNOWN:
        found["accepted"] = check(certificate, operator, state, *inputs).accepted
    return found


def observed_iterations(
    operator: Any, state: Any, inputs: tuple[Any, ...], part: float = 1e-3, limit: int = 2000
) -> int:
    """Picard steps until the l2 residual falls below `part` of the first one; `limit` where it does not.

    An observation of the floating-point program, no bound.
    """
    with torch.no_grad():
        first = None
        for count in range(1, limit + 1):
            image = operator(state, *inputs)
            step = float((image - state).double().norm())
            first, state = first if first is not None else step, image
            if step <= part * first:
                return count
    return limit
