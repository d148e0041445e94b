"""The theorems `certify` can apply, one file each; statements and names are those of the theory.

A theorem is an object: its hypotheses, the function that verifies them, what it then guarantees, its proof's name,
its source.
"""

from __future__ import annotations

from ._absorbing import ABSORBING, absorbing
from ._base import Finding, Hypothesis, Theorem
from ._causal import CAUSAL, causal
from ._componentwise import COMPONENTWISE, componentwise
from ._local_lyapunov import LOCAL_LYAPUNOV, local_lyapunov
from ._local_picard import (
    LOCAL_PICARD,
    local_picard,
    local_picard_by_multipliers,
    local_picard_by_slopes,
    node_norm,
)
from ._log_norm import LOG_NORM
from ._monotone import MONOTONE, monotone
from ._newton_kantorovich import NEWTON_KANTOROVICH, newton_kantorovich
from ._one_sided import ONE_SIDED
from ._picard import DAMPED, PICARD, damped, picard, picard_by_multipliers, picard_by_slopes
from ._powers import POWERS
from ._quadratic import QUADRATIC

THEOREMS: dict[str, Theorem] = {
    theorem.name: theorem
    for theorem in (
        PICARD,
        POWERS,
        QUADRATIC,
        DAMPED,
        LOCAL_PICARD,
        LOCAL_LYAPUNOV,
        LOG_NORM,
        ONE_SIDED,
        MONOTONE,
        NEWTON_KANTOROVICH,
        CAUSAL,
        ABSORBING,
        COMPONENTWISE,
    )
}

CONTRACTIONS = ("picard", "damped", "local_picard")
"""Their certificates prove a constant of G itself, whatever is claimed."""

AUTO = ("picard", "log_norm", "causal", "quadratic", "powers", "absorbing", "one_sided", "monotone")
"""What `theorem="auto"` tries everywhere, in the order of cost; then `_around.py` tries balls.

T13 is not among them: where it holds everywhere T1 holds in the norm linf weighted by 1/x, which "picard" tries. It is
there by name for what T1 does not give, bounds for each component and boxes of another shape than x.
"""

__all__ = [
    "AUTO",
    "CONTRACTIONS",
    "THEOREMS",
    "Finding",
    "Hypothesis",
    "Theorem",
    "absorbing",
    "causal",
    "componentwise",
    "damped",
    "local_lyapunov",
    "local_picard",
    "local_picard_by_multipliers",
    "local_picard_by_slopes",
    "monotone",
    "newton_kantorovich",
    "node_norm",
    "picard",
    "picard_by_multipliers",
    "picard_by_slopes",
]
