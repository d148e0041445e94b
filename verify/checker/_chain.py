"""The constant of a chain of linear maps and slopes in plain l2, from multipliers that the certificate brings.

A function's difference quotients in `c_i +- r_i` give `u_i = c_i v_i + r_i w_i` with `|w_i| <= |v_i|`. Pre-activations
and results are then linear in the unknowns x of the state and w: `v = V (x, w)`, `y = Y (x, w)`. For multipliers
T_i >= 0

    |y|^2 <= |y|^2 + sum_i T_i (v_i^2 - w_i^2) <= q^2 |x|^2    if    diag(q^2, .., T) - Y^T Y - V^T diag(T) V >= 0.

The matrix is written out in balls and shown to be positive semidefinite in integers (`_definite.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flint import arb

from . import _arithmetic as ball
from ._affine import Source
from ._definite import lowest_eigenvalue
from ._network import Walk
from ._refusal import Rejected
from ._stack import Stack
from ._subject import Subject
from ._term import Form, Term
from ._witness import Array

LARGEST_ORDER = 1024  # of the matrix: unknowns and open slopes of one problem
LARGEST_ENTRIES = 2**21  # of the matrices of all problems that have to be looked at


def require_chain(walk: Walk, subject: Subject, multipliers: Sequence[Array], bound: float) -> int:
    """Show that every problem has constant `bound` in l2; the number of problems that had to be looked at.

    Args:
        walk: the network, everywhere or over a ball.
        subject: the operator's graph.
        multipliers: one array for each elementwise function, in the graph's order: (1, *entries) or
            (problems, *entries); 0 only where a slope is known.
        bound: q.

    Raises:
        Rejected: it is not shown, or the matrices are beyond the checker's means.
    """
    batch, sources = subject.graph.batch_dims, walk.network.sources
    problems = subject.shapes[0][0] if batch else 1
    functions = [source for source in sources if _is_function(source)]
    expected = [source.shape[batch:] for source in functions]
    if [array.shape[1:] for array in multipliers] != expected or any(len(a) not in (1, problems) for a in multipliers):
        raise Rejected("evidence.multipliers: must be one array for each function, for one problem or for each")
    if not all((array >= 0).all() for array in multipliers):
        raise Rejected("evidence.multipliers: one is negative")
    looked_at = range(1 if _all_alike(sources) and all(len(a) == 1 for a in multipliers) else problems)
    for problem in looked_at:
        own = [array[problem if len(array) > 1 else 0].reshape(-1) for array in multipliers]
        part = _Part(problem, batch, problems)
        _require_semidefinite(_Columns(walk, part, own, len(looked_at)).matrix(bound), problem)
    return len(looked_at)


def _is_function(source: Source) -> bool:
    return source.form is not None and source.name != "" and source.derivative is None


def _all_alike(sources: list[Source]) -> bool:
    """Whether no slope or factor differs from entry to entry, so that every problem has the same matrices."""
    return all(not np.asarray(end, dtype=object).ndim for source in sources for end in source.interval)


def _require_semidefinite(matrix: ball.Balls, problem: int) -> None:
    diagonal = [float(matrix[k, k]) for k in range(len(matrix))]
    if not all(0 < entry < math.inf for entry in diagonal):
        raise Rejected(f"evidence.multipliers: a diagonal entry of problem {problem} is not positive")
    scales = ball.array(np.array([arb(2) ** -(math.frexp(entry)[1] // 2) for entry in diagonal], dtype=object))
    scaled = ball.times(matrix, scales[:, None] * scales[None, :])
    if not bool(lowest_eigenvalue(scaled) >= 0):
        raise Rejected(
            f"evidence.multipliers: the matrix of problem {problem} is not shown to be positive semidefinite"
        )


@dataclass(frozen=True)
class _Part:
    """One problem of a batch; arrays keep dimension 0 with size 1."""

    problem: int
    batch: int
    problems: int

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not self.batch:
            return shape
        if not shape or shape[0] != self.problems:
            raise Rejected("the checker cannot take the problems of this batch apart")
        return (1, *shape[1:])

    def entries(self, array: Any, shape: tuple[int, ...]) -> ball.Balls:
        """The problem's entries of an array of this shape, or of one number for all, in a row."""
        full = np.broadcast_to(np.asarray(array, dtype=object), shape)
        return np.asarray(full[self.problem] if self.batch else full).reshape(-1)

    def term(self, term: Term) -> Term:
        if not self.batch or self.problems == 1:
            return term
        if term.matrices[:1] != (None,) or term.axes[:1] != (0,):
            raise Rejected("the checker cannot take the problems of this batch apart")
        return replace(term, source_shape=self.shape(term.source_shape))


class _Columns:
    """One column for each unknown, pushed forward from source to source."""

    def __init__(self, walk: Walk, part: _Part, multipliers: list[Array], problems: int) -> None:
        self._sources, self._outputs, self._part = walk.network.sources, walk.outputs, part
        self._needed = _needed(self._sources, self._outputs)
        functions = [k for k, source in enumerate(self._sources) if _is_function(source)]
        self._multipliers = {k: own for k, own in zip(functions, multipliers, strict=True) if k in self._needed}
        shapes = [part.shape(source.shape) for source in self._sources if source.form is None]
        self._unknowns = sum(math.prod(shape) for shape in shapes)
        self._size = self._unknowns + sum(int((own > 0).sum()) for own in self._multipliers.values())
        self._refuse_large(problems)
        self._values: dict[int, ball.Balls] = {}
        self._rows: list[ball.Balls] = []
        self._weights: list[Any] = []
        self._leaf = 0
        for number, source in enumerate(self._sources):
            if number in self._needed or source.form is None:
                self._values[number] = self._value(number, source)

    def matrix(self, bound: float) -> ball.Balls:
        """`diag(q^2, .., T) - Y^T Y - V^T diag(T) V`."""
        Y = np.concatenate([self._forward(form).reshape(-1, self._size) for form in self._outputs])
        result = -ball.matrix_product(Y.T, Y)
        if self._rows:
            V, weights = np.concatenate(self._rows), ball.array(np.array(self._weights, dtype=object))
            result = ball.array(result - ball.matrix_product(V.T, ball.times(V, weights[:, None])))
        for k in range(self._size):
            result[k, k] += arb(bound) ** 2 if k < self._unknowns else self._weights[k - self._unknowns]
        return result

    def _refuse_large(self, problems: int) -> None:
        if self._size > LARGEST_ORDER or problems * self._size**2 > LARGEST_ENTRIES:
            raise Rejected(
                f"matrices of order {self._size} for {problems} problems are beyond the checker's means: at most "
                f"order {LARGEST_ORDER} and {LARGEST_ENTRIES} entries"
            )

    def _value(self, number: int, source: Source) -> ball.Balls:
        shape = (*self._part.shape(source.shape), self._size)
        if source.form is None:
            count = math.prod(shape[:-1])
            own = ball.full(0, (count, self._size))
            own[np.arange(count), self._leaf + np.arange(count)] = arb(1)
            self._leaf += count
            return own.reshape(shape)
        if source.derivative is not None:
            raise Rejected("evidence: multipliers are for elementwise functions, not for normalisations")
        before = self._forward(source.form)
        if isinstance(source.linear, Stack):
            raise Rejected("evidence: multipliers are not for products with matrices that differ or vary")
        if source.linear is not None:
            stage = replace(source.linear, in_shape=self._part.shape(source.linear.in_shape))
            return stage.columns(before, stage.kernel).reshape(shape)
        v = before.reshape(-1, self._size)
        low, high = (self._part.entries(end, source.shape) for end in source.interval)
        return (self._sloped(number, v, low, high) if _is_function(source) else _times(v, low, high)).reshape(shape)

    def _sloped(self, number: int, v: ball.Balls, low: ball.Balls, high: ball.Balls) -> ball.Balls:
        """`c v + r w`, with a column of w wherever there is a multiplier."""
        center = ball.each(lambda a, b: ((a + b) / 2).mid(), low, high)
        half = ball.each(lambda a, b, c: (b - c).upper().max((c - a).upper()), low, high, center)
        result, own = ball.times(v, center[:, None]), self._multipliers[number]
        for entry in range(len(v)):
            if own[entry] > 0:
                result[entry, self._unknowns + len(self._weights)] += half[entry]
                self._rows.append(v[entry : entry + 1])
                self._weights.append(arb(float(own[entry])))
            elif not half[entry] == 0:  # noqa: SIM201  (a ball equals a number only when it is certain to)
                raise Rejected("evidence.multipliers: one is 0 where the slope is not known")
        return result

    def _forward(self, form: Form) -> ball.Balls:
        total = ball.full(0, (*self._part.shape(form.shape), self._size))
        for number, terms in form.terms.items():
            for term in terms:
                total = ball.plus(total, self._part.term(term).columns(self._values[number]))
        return total


def _times(v: ball.Balls, low: ball.Balls, high: ball.Balls) -> ball.Balls:
    """An affine step: factors that are known."""
    if low is not high and not all(a is b or bool(a == b) for a, b in zip(low, high, strict=True)):
        raise Rejected("evidence: a step of the operator is not understood as a factor")
    return ball.times(v, low[:, None])


def _needed(sources: list[Source], outputs: list[Form]) -> set[int]:
    """The numbers of the sources that the result depends on."""
    found = {number for form in outputs for number in form.terms}
    for number in range(len(sources) - 1, -1, -1):
        form = sources[number].form
        if number in found and form is not None:
            found |= set(form.terms)
    return found
