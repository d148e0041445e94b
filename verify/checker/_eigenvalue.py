"""An eigenvalue of modulus above g for every matrix of an enclosure, by Stein's inequality.

`g^2 P - J^T P J` positive definite and P symmetric with `x^T P x < 0` for some x: were all eigenvalues of J of
modulus <= g, P would be positive definite.
"""

from __future__ import annotations

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._definite import lowest_eigenvalue
from ._refusal import Rejected
from ._witness import Array


def require_growth(slopes: ball.Balls, form: Array, growth: float) -> str:
    """Show that every matrix in the enclosure has an eigenvalue of modulus above g >= 1.

    Raises:
        Rejected: it could not be shown.
    """
    n = len(slopes)
    if form.shape != (n, n) or not (form == form.T).all():
        raise Rejected("evidence.form: must be a symmetric matrix of one problem's unknowns")
    if not growth >= 1:
        raise Rejected("evidence.growth: must be at least 1")
    P = ball.balls(form.reshape(-1).tolist(), form.shape)
    image = ball.matrix_product(ball.array(slopes.T), ball.matrix_product(P, slopes))
    least = lowest_eigenvalue(ball.array(P * arb(growth) ** 2 - image))
    if not least > 0:
        raise Rejected("evidence.form: g^2 P - J^T P J could not be shown to be positive definite")
    if not _is_indefinite(P, form):
        raise Rejected("evidence.form: no vector with x^T P x < 0 was found")
    return f"every slope matrix there has an eigenvalue of modulus > {growth!r}"


def _is_indefinite(P: ball.Balls, form: Array) -> bool:
    try:
        direction = np.linalg.eigh(form)[1][:, :1]
    except np.linalg.LinAlgError:
        return False
    x = ball.balls(direction.reshape(-1).tolist(), direction.shape)
    value = ball.matrix_product(ball.array(x.T), ball.matrix_product(P, x))[0, 0]
    return bool(value < 0)
