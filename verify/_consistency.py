"""Whether the parts of a certificate from a file fit together; whether they are true is the checker's question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from deqops._errors import ModelFileError

from ._claim import Converges, Verdict
from ._evidence import Evidence
from ._norm import Norm
from ._refutations import REFUTATIONS
from ._region import Ball, Box, Region
from ._theorems import CONTRACTIONS, THEOREMS

LONGEST_CYCLE = 16
SIGNED = ("mu", "least", "outside", "image")  # numbers that may be negative

if TYPE_CHECKING:
    from ._certificate import Certificate


def require_consistent(certificate: Certificate) -> None:
    """Refuse what would fail later, deep inside: shapes that differ, numbers out of range, parts that are missing.

    Raises:
        ModelFileError: the first thing that does not fit.
    """
    _state(certificate)
    _texts(certificate)
    _numbers(certificate)
    for norm in (certificate.norm, getattr(certificate.claim, "norm", None)):
        _norm(norm, certificate)
    for region in (certificate.region, certificate.claim.region):
        _region(region, certificate)
    _verdict(certificate)


def _require(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise ModelFileError(f"certificate: {where}: {what}; the file was edited or damaged")


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, tuple) and all(type(size) is int and 0 <= size < 2**62 for size in shape)


def _state(certificate: Certificate) -> None:
    _require(type(certificate.batch_dims) is int and certificate.batch_dims in (0, 1), "batch_dims", "must be 0 or 1")
    shapes = [shape for shape, _ in certificate.state]
    _require(bool(shapes) and all(map(_is_shape, shapes)), "state", "must be a list of shapes")
    if certificate.batch_dims:
        _require(all(shapes) and len({shape[0] for shape in shapes}) == 1, "state", "its leaves differ in problems")


def _texts(certificate: Certificate) -> None:
    pairs = [
        *(
            (certificate.theorem or "", "theorem"),
            (certificate.fingerprint, "fingerprint"),
            (certificate.reason, "reason"),
        ),
        *((dtype, "state") for _, dtype in certificate.state),
        *((text, "attempts") for text in certificate.attempts),
        *((part, "contributions") for part, _ in certificate.contributions),
        *((text, "hypotheses") for h in certificate.hypotheses for text in (h.name, h.statement)),
    ]
    for record in certificate.inputs:
        pairs += [(record.name, "inputs"), (record.dtype, "inputs"), (record.sha256 or "", "inputs")]
        _require(_is_shape(record.shape), "inputs", "must have shapes")
        if record.ends is not None:
            lower, upper = record.ends
            fits = tuple(lower.shape) == tuple(upper.shape) == record.shape and record.sha256 is None
            crossed = not fits or not bool((lower.isfinite() & upper.isfinite() & (lower <= upper)).all())
            _require(not crossed, "inputs", "its ends have not its shape, are not finite, or cross")
    for text, where in pairs:
        _require(isinstance(text, str), where, "must be text")


def _numbers(certificate: Certificate) -> None:
    evidence = certificate.evidence
    proven = {} if evidence is None else evidence.numbers
    for name, value in (("rate", certificate.rate), *proven.items()):
        signed = name in SIGNED and value is not None and math.isfinite(value)
        _require(signed or value is None or 0 <= value < math.inf, name, "must be at least 0 and finite")
        shrinks = name not in ("rate", "contraction") or value is None or value < 1
        _require(shrinks, name, "must be below 1")
    for name, count in ({} if evidence is None else evidence.counts).items():
        _require(type(count) is int and 0 <= count < 2**40, name, "must be a whole number")
    for _, gain in certificate.contributions:
        _require(not math.isnan(gain), "contributions", "must be numbers")
    if isinstance(certificate.claim, Converges):
        damping = certificate.claim.damping
        _require(damping != 0 and math.isfinite(damping), "damping", "must be finite and not 0")


def _norm(norm: Norm | None, certificate: Certificate) -> None:
    if norm is not None and norm.weights is not None:
        shapes = [shape[certificate.batch_dims :] for shape, _ in certificate.state]
        _require([tuple(w.shape) for w in norm.weights] == shapes, "norm", "its weights have not the state's shapes")


def _region(region: Region, certificate: Certificate) -> None:
    if isinstance(region, Ball):
        _states(region.leaves, certificate, "region")
        _norm(region.norm, certificate)
    if isinstance(region, Box):
        for leaves in region.ends:
            _states(leaves, certificate, "region")


def _states(leaves: Sequence[Tensor], certificate: Certificate, where: str) -> None:
    shapes = [shape for shape, _ in certificate.state]
    _require([tuple(leaf.shape) for leaf in leaves] == shapes, where, "it has not the state's shapes")
    _require(all(bool(leaf.isfinite().all()) for leaf in leaves), where, "it holds NaN or infinity")


def _matrices(tensors: Sequence[Tensor], certificate: Certificate, stack: tuple[int, ...]) -> None:
    """One tensor of matrices over the unknowns of one problem."""
    unknowns = sum(math.prod(shape[certificate.batch_dims :]) for shape, _ in certificate.state)
    expected = (*stack, unknowns, unknowns)
    _require([tuple(t.shape) for t in tensors] == [expected], "evidence", "its matrices have not the state's size")
    _require(bool(tensors[0].isfinite().all()), "evidence", "it holds NaN or infinity")


def _positive(leaves: Sequence[Tensor], certificate: Certificate) -> None:
    """Numbers > 0 in the leaves' shapes for one problem."""
    shapes = [shape[certificate.batch_dims :] for shape, _ in certificate.state]
    _require([tuple(leaf.shape) for leaf in leaves] == shapes, "evidence", "its vector has not the state's shapes")
    positive = all(bool(((leaf > 0) & leaf.isfinite()).all()) for leaf in leaves)
    _require(positive, "evidence", "its vector is not positive and finite")


def _levels(leaves: Sequence[Tensor], depth: int, certificate: Certificate) -> None:
    _states(leaves, certificate, "evidence")
    inside = all(bool(((leaf >= 1) & (leaf <= depth) & (leaf == leaf.floor())).all()) for leaf in leaves)
    _require(inside, "evidence", "its levels are not whole numbers from 1 to depth")


def _multipliers(tensors: Sequence[Tensor], certificate: Certificate) -> None:
    """Numbers >= 0, for one problem or for each."""
    sizes = {1, _problems(certificate)}
    _require(all(t.ndim and t.shape[0] in sizes for t in tensors), "evidence", "its multipliers are for other problems")
    sound = all(bool(((t >= 0) & t.isfinite()).all()) for t in tensors)
    _require(sound, "evidence", "its multipliers are negative or not finite")


def _problems(certificate: Certificate) -> int:
    return certificate.state[0][0][0] if certificate.batch_dims else 1


def _verdict(certificate: Certificate) -> None:
    verdict, evidence, theorem = certificate.verdict, certificate.evidence, certificate.theorem
    proven = verdict is Verdict.CERTIFIED
    _require((evidence is None) == (verdict is Verdict.UNKNOWN), "evidence", "must be the verdict's")
    _require(certificate.norm is not None or not proven, "norm", "a certified claim has one")
    _require(certificate.rate is None or proven, "rate", "belongs to a certified claim")
    if evidence is None:
        return
    kinds = THEOREMS[theorem].evidence if theorem in THEOREMS else REFUTATIONS
    _require((theorem in THEOREMS) == proven and evidence.kind in kinds, "evidence", "is not the theorem's")
    if proven:
        _require((certificate.rate is not None) == _rated(certificate), "rate", "is not the theorem's")
    if evidence.kind == "absorbing":
        for name in ("lower", "upper"):
            _states(evidence.tensors[name], certificate, "evidence")
    if evidence.kind in ("chain", "local_chain"):
        _multipliers(evidence.tensors["multipliers"], certificate)
    if evidence.kind == "causal":
        _levels(evidence.tensors["levels"], evidence.counts["depth"], certificate)
    if evidence.kind == "componentwise":
        _positive(evidence.tensors["vector"], certificate)
    if evidence.kind == "newton":
        _matrices(evidence.tensors["inverse"], certificate, (_problems(certificate),))
    if evidence.kind in ("lyapunov", "quadratic"):
        for name in ("form", "inverse"):
            _matrices(evidence.tensors[name], certificate, (_problems(certificate),))
    if evidence.kind in REFUTATIONS:
        _refutation(certificate, evidence)


def _rated(certificate: Certificate) -> bool:
    """Whether the certificate proves the rate of an iteration: T1, T2 and T4 that of G too, T5 of a claimed one."""
    of_operator = certificate.theorem in CONTRACTIONS
    return THEOREMS[certificate.theorem or ""].rated and (of_operator or isinstance(certificate.claim, Converges))


def _refutation(certificate: Certificate, evidence: Evidence) -> None:
    allowed = type(certificate.claim).__name__ in REFUTATIONS[evidence.kind].refutes
    _require(allowed, "claim", f"evidence of kind {evidence.kind!r} does not refute it")
    _require(evidence.counts["problem"] < _problems(certificate), "evidence", "there is no such problem")
    for name in ("first", "second", "point"):
        if name in evidence.tensors:
            _states(evidence.tensors[name], certificate, "evidence")
    if "points" in evidence.tensors:
        _cycle(evidence.tensors["points"], certificate)
    if "form" in evidence.tensors:
        _matrices(evidence.tensors["form"], certificate, ())


def _cycle(points: tuple[Tensor, ...], certificate: Certificate) -> None:
    """Each leaf of the state with the points of the cycle along a new dimension 0."""
    period = points[0].shape[0] if points and points[0].ndim else 0
    _require(1 < period <= LONGEST_CYCLE, "evidence", f"a cycle has a period from 2 to {LONGEST_CYCLE}")
    shapes = [(period, *shape) for shape, _ in certificate.state]
    _require([tuple(leaf.shape) for leaf in points] == shapes, "evidence", "its points have not the state's shapes")
    _require(all(bool(leaf.isfinite().all()) for leaf in points), "evidence", "it holds NaN or infinity")
