"""T8 `causal`: each component of G(y) depends only on components of a lower level."""

from __future__ import annotations

import math

import numpy as np

from .._document import Document, Evidence, Norm
from .._levels import LevelWalk, Numbers
from .._refusal import Rejected
from .._subject import Subject
from .._vector_norm import full_weights
from ._base import Rule, require


def _causal(document: Document, evidence: Evidence, subject: Subject, norm: Norm) -> tuple[str, ...]:
    """By induction a component of level n is final after n sweeps; so one equilibrium, reached in `depth` sweeps."""
    depth = evidence.counts["depth"]
    require(document.region is None, "region: theorem causal speaks of the whole space")
    require(document.kind in ("converges", "unique_equilibrium"), "claim: theorem causal shows no contraction")
    require(document.damping == 1, "claim.iteration.damping: theorem causal is about the undamped iteration")
    require(document.rate is None, "rate: theorem causal gives none")
    full_weights(norm, subject)  # refuses weights that do not fit the state
    levels = _levels(evidence, subject)
    require(max(int(leaf.max()) for leaf in levels) == depth, "evidence.depth: is not the largest level")
    try:
        _require_lower(LevelWalk(subject, levels, folded=False), levels)
    except Rejected:
        _require_lower(LevelWalk(subject, levels, folded=True), levels)
    return (f"causal: every component depends on lower levels only; Picard's iteration ends in {depth} sweeps",)


def _levels(evidence: Evidence, subject: Subject) -> list[Numbers]:
    arrays = evidence.arrays["levels"]
    require([array.shape for array in arrays] == subject.shapes, "evidence.levels: not of the state's shape")
    whole = all(bool(((array >= 1) & (array < 2**40) & (array == np.floor(array))).all()) for array in arrays)
    require(whole, "evidence.levels: must be whole numbers from 1")
    return [array.astype(np.int64) for array in arrays]


def _require_lower(walk: LevelWalk, levels: list[Numbers]) -> None:
    for found, own in zip(walk.outputs, levels, strict=True):
        require(bool((found.level < own).all()), "evidence.levels: a component may depend on one of its level or above")


def _components(document: Document) -> int:
    """Of one problem."""
    return sum(math.prod(shape[document.batch_dims :]) for shape, _ in document.state)


CAUSAL = Rule(
    _causal,
    "causal",
    {
        "acyclic": lambda _, __, value, limit: value == 0 and limit == 0,
        "sweeps": lambda document, evidence, value, limit: (
            value == evidence.counts["depth"] and value <= limit == _components(document)
        ),
    },
)
