"""Why an operator is not one fixed map, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from deqops._errors import UnsupportedOperationError

_ADVICE = {
    "training mode": "use eval mode",
    "dropout": "use eval mode",
    "not known to deqops": "write it with operations that docs/operators.md lists",
    "random": "draw the numbers outside and make them an input",
    "changes": "leave its own tensors as they are",
}
"""What helps against which reason, the first one that fits any of them."""


def not_one_map(impure: Sequence[str]) -> str:
    """The reasons, and what to do about them."""
    return f"the operator is not one fixed map: {', '.join(impure)}; {_advice(impure)}"


def require_one_map(impure: Sequence[str]) -> None:
    """Raises UnsupportedOperationError where there is a reason why an operator is not one fixed map."""
    if impure:
        raise UnsupportedOperationError(impure[0], f"the operator is not one fixed map; {_advice(impure)}")


def _advice(impure: Sequence[str]) -> str:
    reasons = " ".join(impure)
    return next(
        (text for word, text in _ADVICE.items() if word in reasons), "return what depends on its arguments alone"
    )
