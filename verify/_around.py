"""The largest ball around a state, mostly the computed equilibrium, in which one of the local theorems holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import UnsupportedOperationError

from ._jacobian import Jacobian
from ._largest_ball import Trial, inner_radius, largest_ball
from ._local import local_jacobian
from ._lyapunov import damped_slopes, proposed_form
from ._norm import Norm
from ._problem import Problem
from ._refined import refined
from ._region import Ball
from ._request import Request
from ._rounding import mul_up
from ._sharpened import scale_of, sharpened
from ._theorems import (
    Finding,
    local_lyapunov,
    local_picard,
    local_picard_by_slopes,
    newton_kantorovich,
    node_norm,
)

if TYPE_CHECKING:
    from deqops import Solver

LARGEST_LYAPUNOV = 1024
"""Unknowns of one problem up to which T12 is tried unasked, as many as the checker takes."""

LARGEST_NEWTON = 1024
"""Unknowns of one problem up to which T6 is tried unasked."""

_CHEAP = 128  # unknowns up to which T12 and T6 are tried although T2 has found a ball
_SAME = 1e-3  # of a state's scale: equilibria nearer than this are one
_SWEEPS = 1000
_LARGER = 1.1  # balls are compared by the l2 ball inside: a share that is worth another certificate


@dataclass(eq=False)
class Located:
    """What the search around a state gave.

    Attributes:
        best: the finding whose ball is the largest, convergence before existence; None where none holds.
        others: what did not hold, and T6 on a larger ball where it did, for people.
        unsupported: why a theorem could not be tried.
    """

    best: Finding | None = None
    others: list[Finding] = field(default_factory=list)
    unsupported: list[tuple[str, str]] = field(default_factory=list)

    def inner(self, size: int) -> float:
        """About the radius of the l2 ball inside the best ball."""
        return 0.0 if self.best is None else _inner(self.best, size)


def around(problem: Problem, inputs: tuple[object, ...], request: Request) -> Located:
    """T2 in the norms asked for, T12, then T6, each on the largest ball that it holds on.

    T12 and T6 are tried where nothing else holds, or where they cost little. T6 says nothing of the iteration: it
    counts where convergence is not shown, and its ball is mentioned where it is larger, for there is one equilibrium
    in all of it.
    """
    located, searches = Located(), list[_Search]()
    for center in _centers(problem, inputs, request):
        search = _Search(problem, center, request)
        searches.append(search)
        for name, look in (("local_picard", search.picard), ("local_lyapunov", search.lyapunov)):
            if request.asks_around(name):
                _collect(located, name, look, problem.size)
        if located.best is not None or request.watch.spent:
            break
    if not searches:
        located.unsupported.append(("local", "no finite state was reached from the example: there is no centre"))
        return located
    search = searches[-1] if located.best is not None else searches[0]
    if request.asks_around("newton_kantorovich") and search.worthwhile(located, LARGEST_NEWTON):
        _add_newton(located, search, problem.size)
    return located


def _centers(problem: Problem, inputs: tuple[object, ...], request: Request) -> Iterator[tuple[Tensor, ...]]:
    """The state given; else the computed equilibrium, then where the iteration itself ends up, if that is elsewhere.

    A solver that is not the iteration finds equilibria that repel it too.
    """
    given = request.center(problem)
    if given is not None:
        yield given
        return
    found = computed_equilibrium(problem, inputs)
    if found is not None:
        yield found
    damping = request.iteration_damping()
    reached = iterated(problem, inputs, damping) if 0 < damping <= 1 else None
    if reached is not None and (found is None or not _near(reached, found)):
        yield reached


def _near(first: tuple[Tensor, ...], second: tuple[Tensor, ...]) -> bool:
    apart = max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True) if a.numel())
    return apart <= _SAME * scale_of(second)


def _collect(located: Located, name: str, look: Callable[[Located], Iterator[Finding]], size: int) -> None:
    """The findings of one theorem: the largest ball is the best one."""
    try:
        for found in look(located):
            if not found.holds:
                located.others.append(found)
            elif _inner(found, size) > located.inner(size):
                located.best = found
    except UnsupportedOperationError as error:
        located.unsupported.append((name, str(error)))


def _add_newton(located: Located, search: _Search, size: int) -> None:
    """T6: the best where nothing converges, else a remark where its ball is larger."""
    if located.best is None:
        _collect(located, "newton_kantorovich", search.newton, size)
        return
    wider = Located(located.best)
    _collect(wider, "newton_kantorovich", search.newton, size)
    if wider.best is not None and wider.best is not located.best:
        located.others.append(wider.best)


def _inner(found: Finding, size: int) -> float:
    region = found.region
    return inner_radius(found.norm, region.radius, size) if isinstance(region, Ball) else 0.0


class _Search:
    """The theorems around one point."""

    def __init__(self, problem: Problem, center: tuple[Tensor, ...], request: Request) -> None:
        self._problem, self._request, self._center = problem, request, center
        self._near: tuple[Tensor, ...] | None = None

    def picard(self, located: Located) -> Iterator[Finding]:
        """T2 in each norm asked for."""
        problem, damping = self._problem, self._request.iteration_damping()
        center = self._refined()
        smallest = _smallest(problem, center)
        if not math.isfinite(smallest):
            return  # values overflow near the point: no ball can be enclosed
        ball = Ball(center, smallest)
        for norm in self._norms(ball, located):
            attempt = partial(local_picard, problem, norm, damping=damping)
            trial = Trial(attempt, "bound", lambda found: found.evidence.numbers["residual"])
            yield self._largest(trial, norm, center, smallest, located)
        if located.best is not None or self._request.asks_around("local_lyapunov"):
            return  # where T12 is asked for, it takes the same matrices
        for norm in self._request.norms_of_slopes(problem, lambda: local_jacobian(problem, ball, Norm("linf"))):
            attempt = partial(_by_slopes, problem, norm, damping=damping)
            trial = Trial(attempt, "bound", lambda found: found.evidence.numbers["residual"])
            yield self._largest(trial, norm, center, smallest, located)

    def _refined(self) -> tuple[Tensor, ...]:
        """The point; for the nodes of a large graph nearer to the equilibrium, where it was not given."""
        given = self._request.center(self._problem) is not None
        if given or self._problem.size <= LARGEST_LYAPUNOV:
            return self._center
        return refined(self._problem, self._center)

    def _norms(self, ball: Ball, located: Located) -> Iterator[Norm]:
        """The norms asked for; where G contracts in none of them, one that is fitted to the nodes of a graph."""
        nearby: Callable[[], Jacobian] = lambda: local_jacobian(self._problem, ball, Norm("linf"))  # noqa: E731
        yield from self._request.norms(self._problem, nearby)
        if located.best is None and not self._request.watch.spent:
            fitted = node_norm(self._problem, self._request, nearby)
            if fitted is not None:
                yield fitted

    def lyapunov(self, located: Located) -> Iterator[Finding]:
        """T12 in the quadratic norm fitted to the slopes at the point."""
        problem, damping = self._problem, self._request.iteration_damping()
        if not self.worthwhile(located, LARGEST_LYAPUNOV) or self._request.norm not in ("auto", Norm("l2")):
            return
        center = self._sharpened()
        smallest = _smallest(problem, center)
        if not math.isfinite(smallest):
            return
        form = proposed_form(damped_slopes(problem, Ball(center, smallest), damping).mid)
        trial = Trial(
            lambda ball: local_lyapunov(problem, ball, damping, form),
            "contraction",
            lambda found: float(mul_up(found.evidence.numbers["inverse_size"], found.evidence.numbers["defect"])),
        )
        yield self._largest(trial, Norm("l2"), center, smallest, located)

    def newton(self, located: Located) -> Iterator[Finding]:
        """T6 in each norm asked for; l2, then linf where none was."""
        problem, center = self._problem, self._sharpened()
        smallest = _smallest(problem, center)
        if not math.isfinite(smallest):
            return
        ball = Ball(center, smallest)
        for norm in self._request.plain_norms(problem, lambda: local_jacobian(problem, ball, Norm("linf"))):
            trial = Trial(
                lambda b, norm=norm: newton_kantorovich(problem, norm, b),  # type: ignore[misc]
                "contraction",
                lambda found: found.evidence.numbers["defect"],
            )
            yield self._largest(trial, norm, center, smallest, located)

    def worthwhile(self, located: Located, largest: int) -> bool:
        """Whether a theorem that writes out the Jacobian is tried: where asked for, needed, or cheap."""
        if self._request.theorem != "auto":
            return True
        return self._problem.size <= (largest if located.best is None else _CHEAP) and not self._request.watch.spent

    def _largest(
        self, trial: Trial, norm: Norm, center: tuple[Tensor, ...], smallest: float, located: Located
    ) -> Finding:
        watch, size = self._request.watch, self._problem.size
        least = trial.least(center, smallest)
        watch.tell(least.describe())
        if not least.holds:
            return least
        beyond = _LARGER * located.inner(size) / inner_radius(norm, 1.0, size)
        return largest_ball(trial, least, scale_of(center), watch, beyond)

    def _sharpened(self) -> tuple[Tensor, ...]:
        if self._near is None:
            given = self._request.center(self._problem) is not None
            self._near = self._center if given else sharpened(self._problem, self._center)
        return self._near


def _by_slopes(problem: Problem, norm: Norm, ball: Ball, damping: float) -> Finding:
    found = local_picard_by_slopes(problem, norm, ball, damping)
    if found is None:
        raise UnsupportedOperationError("operator", "has matrices of slope products that are too large to write out")
    return found


def _smallest(problem: Problem, center: tuple[Tensor, ...]) -> float:
    """The radius of the first ball: with room for the residual, and for rounding."""
    return 4 * float(problem.residual(list(center), Norm("l2")).max()) + 1e-13 * scale_of(center)


def computed_equilibrium(problem: Problem, inputs: tuple[object, ...]) -> tuple[Tensor, ...] | None:
    """Where Anderson's method ends up from the example state, float64 leaves; None where it is not finite.

    A proposal: nothing says that it is near an equilibrium.
    """
    from deqops import Anderson

    return _finite_leaves(_solved(problem, inputs, problem.example, Anderson(), 0.0, 200))


def iterated(problem: Problem, inputs: tuple[object, ...], damping: float) -> tuple[Tensor, ...] | None:
    """Where the damped iteration comes near rest from the example state, refined by Anderson's method; a proposal."""
    from deqops import Anderson, Picard

    near = _solved(problem, inputs, problem.example, Picard(damping=damping), 1e-5, _SWEEPS)
    return _finite_leaves(_solved(problem, inputs, near, Anderson(), 0.0, 200))


def _solved(
    problem: Problem, inputs: tuple[object, ...], start: list[Tensor], solver: Solver, relative: float, most: int
) -> list[Tensor]:
    from deqops import Tolerance, solve

    with torch.no_grad():
        solution = solve(
            problem.operator,
            pytree.tree_unflatten(start, problem.tree),
            *inputs,
            solver=solver,
            tolerance=Tolerance(relative=relative, absolute=0.0),
            max_evaluations=most,
            batch_dims=problem.batch_dims,
            throw=False,
        )
    return pytree.tree_leaves(solution.value)


def _finite_leaves(state: list[Tensor]) -> tuple[Tensor, ...] | None:
    leaves = tuple(leaf.detach().to(torch.float64) for leaf in state)
    return leaves if all(bool(leaf.isfinite().all()) for leaf in leaves) else None
