"""Strategies of certificates: true ones, and ones that lie."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from deqops.verify import Certificate, certify
from deqops.verify._document import digest

from ._strategies import CONTRACTING, Known, contractions, rates

LIES = ("rate", "model", "state", "unsigned")
"""What is wrong: a rate below the constant, another model, another shape, or content that the digest is not of."""


@dataclass(frozen=True, eq=False)
class Certified:
    """An operator that is known, with its certificate: of T1, in the norm of its constant."""

    known: Known
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class Lie:
    """A certificate's document with something wrong in it; the checker must not accept it.

    Attributes:
        known: the operator.
        document: what `deqops.verify.check` takes.
        kind: one of `LIES`.
    """

    known: Known
    document: dict[str, Any]
    kind: str


@st.composite
def certificates(draw: st.DrawFn, kinds: tuple[str, ...] = CONTRACTING) -> Certified:
    """Contractions with their certificates (T1 `picard`)."""
    return _certified(draw(contractions(kinds)))


@st.composite
def lies(draw: st.DrawFn, kinds: tuple[str, ...] = ("linear", "activation", "convolution")) -> Lie:
    """Certificates of contractions that were changed to say what is false."""
    known = draw(contractions(kinds, rate=rates(least=Fraction(1, 8))))
    kind = draw(st.sampled_from(LIES))
    document = copy.deepcopy(_certified(known).certificate.document())
    if kind in ("rate", "unsigned") and known.constant is not None:
        _claim(document, draw(st.integers(0, 7)) / 8 * float(known.constant))
    elif kind == "model":
        fingerprint = document["model"]["fingerprint"]
        document["model"]["fingerprint"] = fingerprint[1:] + ("0" if fingerprint[0] != "0" else "1")
    else:
        document["state"][0]["shape"][-1] += 1
    if kind != "unsigned":
        document["digest"] = digest(document)
    return Lie(known, document, kind)


def _certified(known: Known) -> Certified:
    certificate = certify(
        known.operator, known.start, *known.inputs, theorem="picard", norm=known.norm, batch_dims=known.batch_dims
    )
    return Certified(known, certificate)


def _claim(document: dict[str, Any], rate: float) -> None:
    """A smaller rate, wherever it is said."""
    document["rate"] = document["evidence"]["bound"] = document["hypotheses"][0]["value"] = rate.hex()
