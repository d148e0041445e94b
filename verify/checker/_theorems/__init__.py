"""From the certificate's evidence to its claim: the table at the end of `docs/certificate.md`, one rule a file."""

from __future__ import annotations

from .._document import Document, Evidence
from .._refusal import Rejected
from .._subject import Subject
from ._absorbing import ABSORBING
from ._base import Rule
from ._boxed_picard import BOXED_PICARD
from ._causal import CAUSAL
from ._componentwise import COMPONENTWISE
from ._instability import EIGENVALUE, INDEX, UNSTABLE
from ._local_picard import LOCAL_PICARD, LOCAL_PICARD_CHAIN
from ._log_norm import LOG_NORM
from ._lyapunov import LOCAL_LYAPUNOV, QUADRATIC
from ._monotone import MONOTONE
from ._newton_kantorovich import NEWTON_KANTOROVICH
from ._one_sided import ONE_SIDED
from ._orbits import CYCLE, TWO_EQUILIBRIA
from ._picard import DAMPED, PICARD, PICARD_CHAIN
from ._powers import POWERS
from ._two_points import TWO_POINTS

RULES: dict[tuple[str, str | None], tuple[Rule, ...]] = {
    ("certified", "picard"): (PICARD, PICARD_CHAIN),
    ("certified", "powers"): (POWERS,),
    ("certified", "quadratic"): (QUADRATIC,),
    ("certified", "damped"): (DAMPED,),
    ("certified", "local_picard"): (LOCAL_PICARD, LOCAL_PICARD_CHAIN, BOXED_PICARD),
    ("certified", "local_lyapunov"): (LOCAL_LYAPUNOV,),
    ("certified", "log_norm"): (LOG_NORM,),
    ("certified", "one_sided"): (ONE_SIDED,),
    ("certified", "monotone"): (MONOTONE,),
    ("certified", "newton_kantorovich"): (NEWTON_KANTOROVICH,),
    ("certified", "absorbing"): (ABSORBING,),
    ("certified", "causal"): (CAUSAL,),
    ("certified", "componentwise"): (COMPONENTWISE,),
    ("refuted", "refute"): (TWO_POINTS, EIGENVALUE, TWO_EQUILIBRIA, CYCLE, UNSTABLE, INDEX),
}


def establish(document: Document, subject: Subject) -> tuple[str, ...]:
    """Prove the claim from scratch along the certificate's theorem.

    Returns:
        What was established, with the numbers derived here.

    Raises:
        Rejected: a condition of the theorem could not be shown, or the evidence does not support the claim.
    """
    rules = RULES.get((document.verdict, document.theorem))
    if rules is None:
        raise Rejected(f"theorem: {document.theorem} cannot give the verdict {document.verdict}")
    if document.verdict == "refuted" and any(entry.ends is not None for entry in document.inputs):
        raise Rejected("inputs: a refutation is for one value of each input")
    if document.norm is None:
        raise Rejected("norm: a certified or refuted claim needs one")
    if document.evidence is None:
        raise Rejected(f"evidence: theorem {document.theorem} needs some")
    for rule in rules:
        if rule.kind == document.evidence.kind:
            established = rule.establish(document, document.evidence, subject, document.norm)
            _agree(rule, document, document.evidence)
            return established
    kinds = " or ".join(repr(rule.kind) for rule in rules)
    raise Rejected(f"evidence: theorem {document.theorem} needs evidence of kind {kinds}")


def _agree(rule: Rule, document: Document, evidence: Evidence) -> None:
    """Every hypothesis the certificate states is one that was just shown, with these numbers."""
    for stated in document.hypotheses:
        where = f"hypotheses: {stated.name!r}"
        agrees = rule.hypotheses.get(stated.name)
        if agrees is None or stated.value is None or stated.limit is None or stated.holds is not True:
            raise Rejected(f"{where} is unknown, has no numbers, or is not said to hold")
        if not agrees(document, evidence, stated.value, stated.limit):
            raise Rejected(f"{where} does not agree with the evidence")
