"""The page's sentences: what is claimed, what is proven, what is not."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deqops.verify import Certificate, Hypothesis

    from ._facts import Facts
    from ._trajectory import Trajectory

THEOREMS = {
    "picard": "T1, Banach's fixed-point theorem: a map that brings any two states closer by a factor q < 1 has one "
    "equilibrium, and Picard's iteration reaches it from every start.",
    "powers": "T1, Banach's theorem for a power of the map: several steps together bring any two states closer, so "
    "there is one equilibrium, and Picard's iteration reaches it from every start.",
    "quadratic": "T1, Banach's theorem in a quadratic norm |R y|, which every step shrinks though it may not shrink "
    "any plain norm: one equilibrium, and Picard's iteration reaches it from every start.",
    "local_picard": "T2, Banach's theorem in a ball that the map does not leave.",
    "local_lyapunov": "T12, Banach's theorem in a quadratic norm |R y|: near an equilibrium every matrix of slopes "
    "shrinks an ellipsoid, so Picard's iteration reaches it from every start in the ball, though no plain norm may "
    "shrink.",
    "damped": "T4, Banach's theorem for the damped iteration.",
    "monotone": "T5, monotone operators: s(Wz + c) with slopes in [a, b] has one equilibrium for every c where the "
    "symmetric part of (I - aW)^T P (I - bW) is at least mu P, mu > 0. It says nothing of Picard's iteration.",
    "newton_kantorovich": "T6, Newton's method: with an approximate inverse A of I - G', y - A(y - G(y)) contracts in "
    "the ball and does not leave it, so exactly one equilibrium lies there. It says nothing of Picard's iteration.",
    "causal": "T8, causal operators: where no component of the state waits for itself, the components are final level "
    "by level, so Picard's iteration reaches the one equilibrium in finitely many sweeps from every start, exactly.",
    "absorbing": "T11, absorbing sets: the map's values all fall into a box, on which it brings any two states closer, "
    "so Picard's iteration reaches the one equilibrium from every start.",
    "componentwise": "T13, Perov's theorem: the map shrinks differences component by component, weighted by a positive "
    "vector, in a box that it does not leave (or everywhere), so one equilibrium lies there and Picard's iteration "
    "reaches it from every start in the box.",
    "log_norm": "T5, logarithmic norms: where that of every matrix of slopes is at most m < 1, there is one "
    "equilibrium, and the damped iteration reaches it from every start.",
    "one_sided": "T5, monotone operators: where the inner product of G(y) - G(z) and y - z is at most m < 1 times the "
    "square of their distance, there is one equilibrium, and the damped iteration reaches it from every start.",
    "refute": "T9, refutation: the claim is proven false by a counterexample.",
}


def at_most(value: float, digits: int = 4) -> str:
    """A proven upper bound in so many digits, rounded up."""
    return _rounded(value, digits, ROUND_CEILING)


def at_least(value: float, digits: int = 4) -> str:
    """A proven lower bound in so many digits, rounded down."""
    return _rounded(value, digits, ROUND_FLOOR)


def _rounded(value: float, digits: int, rounding: str) -> str:
    if not math.isfinite(value):
        return "infinite"
    return f"{Context(prec=digits, rounding=rounding).create_decimal_from_float(value):g}"


def headline(facts: Facts) -> tuple[str, str]:
    """The verdict's name and what it means, in a sentence."""
    certificate = facts.certificate
    if certificate is None:
        return "not certified", "Nothing is proven of this model yet: it has no certificate."
    claim = certificate.claim.describe()
    claim = claim[0].upper() + claim[1:]
    if facts.rejected:
        stated = f"The certificate says {certificate.verdict.value}: “{claim}.”"
        return "not confirmed", f"{stated} The independent checker does not accept it; take nothing for proven."
    return {
        "certified": ("certified", f"Proven: {claim}."),
        "refuted": ("refuted", f"Proven false: “{claim}.” A witness against it is in the certificate."),
        "unknown": ("unknown", f"Neither proven nor refuted: “{claim}.”"),
    }[certificate.verdict.value]


def consequences(facts: Facts, found: Trajectory) -> list[str]:
    """What follows from a certified claim, in numbers."""
    certificate = facts.certificate
    if certificate is None or facts.rejected:
        return []
    lines = []
    if certificate.depth is not None:
        lines.append(f"Picard's iteration is at the equilibrium after {certificate.depth} sweeps, whatever its start.")
    if certificate.rate is not None:
        factor = at_most(certificate.rate, 9)
        lines.append(
            f"Each step brings the state closer to the equilibrium by a factor of at most {factor} in the "
            f"{found.norm} norm."
        )
    if found.error is not None and math.isfinite(found.error):
        lines.append(
            f"The computed state is within {at_most(found.error)} of the true equilibrium ({found.norm} norm)."
        )
    if certificate.rate is not None and 0 < certificate.rate < 1:
        lines.append(f"One more correct decimal digit takes at most {_steps_per_digit(certificate.rate)} steps.")
    return lines


def _steps_per_digit(rate: float) -> int:
    """n with rate^n <= 0.1, rounding of the power included."""
    steps = math.ceil(math.log(0.1) / math.log(rate))
    return steps if rate**steps * (1 + 1e-12) <= 0.1 else steps + 1


def not_proven(facts: Facts) -> list[str]:
    """What a reader might take for proven and is not."""
    certificate = facts.certificate
    if certificate is None:
        return ["Anything: run the first command below to certify the model."]
    if facts.rejected:
        return ["Anything: certify the model again, or find out where this certificate comes from."]
    verdict = certificate.verdict.value
    lines = []
    if verdict == "unknown":
        lines.append("Whether the claim holds. The bounds that were found are too large to tell; it may well be true.")
    if verdict == "refuted":
        lines.append(
            "That the iteration diverges, or that there is no equilibrium: only the claim above is false, in its norm."
        )
    if verdict == "certified":
        lines.append(
            "The floating-point program. The claim is about the exact function of the stored weights; the program "
            "differs from it by rounding. The proven error of a computed state does account for it."
        )
        if certificate.depth is not None:
            lines.append("How far a state is from the equilibrium before the last sweep, or when sweeps are rounded.")
        elif certificate.rate is None and type(certificate.claim).__name__ != "Converges":
            lines.append("That Picard's iteration, or any other, converges to the one equilibrium.")
        else:
            lines.append("That the rate is the best one: it is an upper bound, and the iteration is often faster.")
    lines.append("That the predictions are right. Accuracies are measured on the test set, nothing more.")
    fixed, free, boxed = (
        [record.name for record in certificate.inputs if record.status == status] for status in ("fixed", "free", "box")
    )
    if verdict == "certified" and boxed:
        lines.append(f"Anything about values of {_listed(boxed)} outside of the two ends that the certificate holds.")
    if verdict == "certified" and fixed:
        others = f"; {_listed(free)} may take any value of the same shape" if free else ""
        lines.append(
            f"Anything about other values of {_listed(fixed)}: the claim holds for the ones in this folder{others}."
        )
    elif verdict == "certified" and not boxed:
        lines.append("Anything about inputs of other shapes; values may be any.")
    if certificate.region.describe() != "everywhere":
        lines.append(f"Anything outside of the region: the claim holds {certificate.region.describe()}.")
    if facts.check is None:
        lines.append("The certificate was not checked again for this page; use the command below.")
    return lines


def checked(facts: Facts) -> str:
    """What the independent checker said."""
    if facts.certificate is None:
        return ""
    if facts.check is None:
        return "The certificate was not re-checked when this page was made."
    if facts.check.accepted:
        return "The independent checker re-derived every bound with its own rules and arithmetic, and accepted."
    if facts.certificate.verdict.value == "unknown":
        return "An unknown verdict proves nothing, so there is nothing to check."
    return "The independent checker REJECTED this certificate: " + "; ".join(facts.check.reasons)


def gains(certificate: Certificate | None) -> list[tuple[str, str, float]]:
    """Each part of the operator, its proven gain, and the length of its bar in percent."""
    if certificate is None or not certificate.contributions:
        return []
    most = max(gain for _, gain in certificate.contributions)
    if not 0 < most < math.inf:
        most = 1.0
    return [(part, at_most(gain, 9), min(100.0, 100 * gain / most)) for part, gain in certificate.contributions]


def hypotheses(certificate: Certificate | None) -> list[tuple[str, str, str, str, str]]:
    """Name, statement, value, limit, and whether it holds."""
    if certificate is None:
        return []
    return [
        (h.name, h.statement, _value(h), _limit(h.limit), "holds" if h.holds else "not shown")
        for h in certificate.hypotheses
    ]


def _limit(value: float | None) -> str:
    return "–" if value is None else f"{value:.9g}"


def _value(hypothesis: Hypothesis) -> str:
    """The verified value, rounded to the side that is safe."""
    if hypothesis.value is None:
        return "–"
    return (at_least if ">" in hypothesis.statement else at_most)(hypothesis.value, 9)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def percent(value: Any) -> str:
    """A share as a percentage; a dash where there is no number."""
    return f"{100 * value:.1f} %" if is_number(value) else "–"


def is_number(value: Any) -> bool:
    """Whether it is a finite number, True and False being none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False
