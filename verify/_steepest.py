"""States at which a layer's activations are steepest: where a search for expansion starts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ._enclosures import as_midrad, enclose_values
from ._jacobian import Elementwise, StateLeaf
from ._midrad import MidRad
from ._problem import Problem
from ._rounding import exact_float64

_STEEPEST = {
    "tanh": 0.0,
    "sigmoid": 0.0,
    "softsign": 0.0,
    "relu": 1.0,
    "softplus": 30.0,
    "gelu": 2.0**0.5,
    "silu": 2.4,
}
_LARGEST = 2048  # unknowns of a layer that is solved for


def steepest_states(problem: Problem) -> Iterator[list[Tensor]]:
    """For each elementwise layer directly on the state: a state whose pre-activations are where its slope peaks.

    The pre-activation is `v(y0) + M (y - y0)`, so this is a least-squares problem in floats: a proposal.
    """
    start = [exact_float64(leaf) for leaf in problem.example]
    if len(start) != 1:
        return
    for basis in problem.jacobian.bases:
        if isinstance(basis, Elementwise) and basis.name in _STEEPEST:
            shift = _shift(problem, basis, start[0])
            if shift is not None and bool(shift.isfinite().all()):
                yield [start[0] + shift]


def _shift(problem: Problem, basis: Elementwise, start: Tensor) -> Tensor | None:
    maps = [(k, one) for k, several in basis.source.terms.items() for one in several]
    if len(maps) != 1 or not isinstance(problem.jacobian.bases[maps[0][0]], StateLeaf):
        return None
    matrix = maps[0][1].last_axis_matrix()
    if matrix is None or max(matrix.shape) > _LARGEST:
        return None
    values = enclose_values(problem.graph, problem.constants, {problem.graph.state[0]: MidRad.exact(start)})
    node = next(n for n in problem.graph.nodes if n.op == basis.name and n.output in problem.graph.state_dependent)
    now = as_midrad(values[node.operands[0]]).mid
    rows = (_STEEPEST[basis.name] - now).reshape(-1, now.shape[-1])
    dense = matrix.dense().mid
    if not bool(dense.isfinite().all() & rows.isfinite().all()):
        return None
    solved: Tensor = torch.linalg.lstsq(dense, rows.T).solution.T
    return solved.reshape(start.shape)
