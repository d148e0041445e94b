"""A Jacobian expression as one dense matrix of intervals per problem.

With slopes in `[a, b]` every slope product M of Lemma `slopes` is enclosed by pushing the identity forward through
the basis values: linear maps and normalisations act on midpoint-radius columns, elementwise slopes multiply rows.
Problems of a batch do not mix, so one column serves the same unknown of all of them.
"""

from __future__ import annotations

import math

import torch

from deqops._errors import UnsupportedOperationError

from . import _midrad as midrad
from ._jacobian import Combination, Jacobian, StateLeaf
from ._linear import LinearMap
from ._midrad import MidRad

LARGEST_ENTRIES = 2**26  # of any matrix that is pushed forward


def interval_jacobian(jacobian: Jacobian, batch_dims: int, largest: int | None = None) -> MidRad:
    """Enclosure of M for every choice of slopes, (problems, n, n), n unknowns of all leaves in their order.

    Raises:
        UnsupportedOperationError: a matrix on the way would have more than `largest` entries; None for
            `LARGEST_ENTRIES`.
    """
    columns = identity_columns(jacobian, batch_dims)
    limit = LARGEST_ENTRIES if largest is None else largest
    refuse_large(jacobian, next(iter(columns.values())).mid.shape[-1], limit)
    values: list[MidRad] = []
    for basis in jacobian.bases:
        if isinstance(basis, StateLeaf):
            values.append(columns[basis.position])
        else:
            values.append(basis.columns(forward_columns(basis.source, values)))
    rows = []
    for output in jacobian.outputs:
        pushed = output_columns(output, values)
        problems = output.shape[0] if batch_dims else 1
        rows.append(pushed.apply_exact(lambda t, problems=problems: t.reshape(problems, -1, t.shape[-1])))  # type: ignore[misc]
    return MidRad(torch.cat([row.mid for row in rows], dim=1), torch.cat([row.rad for row in rows], dim=1))


def identity_columns(jacobian: Jacobian, batch_dims: int) -> dict[int, MidRad]:
    """The identity's rows that belong to each leaf, (*leaf, n)."""
    leaves = sorted((b for b in jacobian.bases if isinstance(b, StateLeaf)), key=lambda leaf: leaf.position)
    sizes = [math.prod(leaf.shape[batch_dims:]) for leaf in leaves]
    rows = torch.split(torch.eye(sum(sizes), dtype=torch.float64), sizes)
    columns = {}
    for leaf, part in zip(leaves, rows, strict=True):
        own = part.reshape(*leaf.shape[batch_dims:], sum(sizes))
        columns[leaf.position] = MidRad.exact(own.expand(*leaf.shape, sum(sizes)))
    return columns


def work(jacobian: Jacobian) -> int:
    """Multiplications that push one column forward."""
    return sum(one.multiplications() for one in _maps(jacobian))


def _maps(jacobian: Jacobian) -> list[LinearMap]:
    sources = [basis.source for basis in jacobian.bases if not isinstance(basis, StateLeaf)]
    return [one for part in (*sources, *jacobian.outputs) for one in part.maps]


def refuse_large(jacobian: Jacobian, unknowns: int, largest: int) -> None:
    """Raise UnsupportedOperationError where a matrix on the way has more entries than this."""
    entries = unknowns * max((one.widest() for one in _maps(jacobian)), default=unknowns)
    if entries > largest:
        raise UnsupportedOperationError("operator", f"has a Jacobian with {entries} intervals on the way: too many")


def forward_columns(combination: Combination, values: list[MidRad]) -> MidRad:
    """The columns of a combination with terms from those of the basis values."""
    total: MidRad | None = None
    for k, maps in combination.terms.items():
        for one in maps:
            part = one.apply(values[k])
            total = part if total is None else midrad.add(total, part)
    if total is None:
        raise ValueError("a combination without terms has no columns")
    return total


def output_columns(output: Combination, values: list[MidRad]) -> MidRad:
    """The columns of a leaf of the new state, which may depend on nothing."""
    if output.terms:
        return forward_columns(output, values)
    return MidRad.exact(torch.zeros(*output.shape, values[0].mid.shape[-1], dtype=torch.float64))
