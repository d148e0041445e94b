"""Strategies of certificates: true ones, ones that lie, and ones spoilt in any way."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from fractions import Fraction

import torch
from hypothesis import assume
from hypothesis import strategies as st

from deqops.verify import Certificate, Norm, certify

from ._choices import Choices, Drawn
from ._known import Known
from ._lies import FALSEHOODS
from ._strategies import CONTRACTING, Rate, contractions, saturated
from ._tampering import TAMPERINGS, Document, signed

LIES = tuple(FALSEHOODS)
"""What is wrong in a certificate's document, by name; see docs/testing.md."""
LYING = ("linear", "activation", "convolution")


@dataclass(frozen=True, eq=False)
class Certified:
    """An operator that is known, with its certificate: of T1 or T2, in the norm of its constant."""

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
    document: Document
    kind: str


@dataclass(frozen=True, eq=False)
class Tampered:
    """A certificate's document that was changed; if it is accepted, what it says now must be true.

    Attributes:
        known: the operator.
        original: the certificate.
        document: the changed document, with the digest of its content.
        kind: one of `TAMPERINGS`.
    """

    known: Known
    original: Certificate
    document: Document
    kind: str


@st.composite
def certificates(
    draw: st.DrawFn, kinds: tuple[str, ...] = CONTRACTING, *, rate: Rate | None = None, weighted: bool = False
) -> Certified:
    """Contractions with their certificates.

    Args:
        kinds: of those that contract everywhere (T1 `picard`), and "saturated" for those in a ball (T2 `local_picard`).
        rate: of the constants; None for `rates()`.
        weighted: whether the norm is written with weights, all 1, which are a witness.
    """
    kind = draw(st.sampled_from(kinds))
    known = draw(saturated() if kind == "saturated" else contractions((kind,), rate=rate))
    return Certified(known, certified(known, weighted=weighted))


@st.composite
def lies(draw: st.DrawFn, kinds: tuple[str, ...] = LIES, *, operators: tuple[str, ...] = LYING) -> Lie:
    """Certificates of contractions that were changed to say what is false, or nothing that can be read.

    Args:
        kinds: some of `LIES`.
        operators: some of the kinds that contract.
    """
    kind = draw(st.sampled_from(kinds))
    lie = FALSEHOODS[kind]
    if lie.needs == "ball":
        operators = ("saturated",)
    if lie.needs == "edges":
        operators = ("graph",)
    least = st.integers(2, 15).map(lambda k: Fraction(k, 16))
    base = draw(certificates(operators, rate=least, weighted=lie.needs == "weights"))
    document = copy.deepcopy(base.certificate.document())
    assume(lie.tell(Drawn(draw), document, base.known))
    return Lie(base.known, document, kind)


@st.composite
def tampered(
    draw: st.DrawFn,
    kinds: tuple[str, ...] = tuple(TAMPERINGS),
    *,
    operators: tuple[str, ...] = (*CONTRACTING, "saturated"),
) -> Tampered:
    """Certificates with any part changed and the digest made right again; not all of them are false.

    Args:
        kinds: some of `TAMPERINGS`.
        operators: kinds that contract, and "saturated".
    """
    kind = draw(st.sampled_from(kinds))
    local = ("saturated",) if kind == "another region" else operators  # a global one would stay as it is
    base = draw(certificates(local, weighted=draw(st.booleans())))
    document = spoilt(Drawn(draw), base.certificate.document(), kind)
    assume(document != base.certificate.document())
    return Tampered(base.known, base.certificate, document, kind)


def spoilt(choices: Choices, document: Document, kind: str) -> Document:
    """A copy with one change of `TAMPERINGS`, signed again."""
    changed = copy.deepcopy(document)
    TAMPERINGS[kind](choices, changed)
    return signed(changed)


def certified(known: Known, *, weighted: bool = False) -> Certificate:
    """The certificate of what is known, of T1 or T2."""
    shape = known.equilibrium.shape[known.batch_dims :]
    ones = Norm(known.norm, (torch.ones(shape, dtype=torch.float64),)) if weighted else known.norm  # type: ignore[arg-type]
    local = known.theorem == "local_picard"
    state = known.equilibrium if local else known.start
    return certify(
        known.operator,
        state,
        *known.inputs,
        theorem=known.theorem,
        norm=ones,
        region=known.region if local else None,
        batch_dims=known.batch_dims,
    )
