"""What was asked of `certify`: norm, region, theorem, damping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from deqops._errors import InputError
from deqops._numbers import exact_number

from ._claim import Claim, Contraction, Converges, UniqueEquilibrium
from ._jacobian import Jacobian
from ._norm import Norm, Order, as_norm
from ._problem import Problem
from ._region import Around, Ball, Box, Region, check_kind
from ._slope_norm import CERTIFIED, fitted_norms
from ._theorems import THEOREMS
from ._watch import Watch
from ._weights import proposed_norm

AROUND = ("local_picard", "local_lyapunov", "newton_kantorovich")
"""The theorems whose ball can be left to the certifier."""

WEIGHTED: dict[str, Order] = {"weighted_l1": "l1", "weighted_l2": "l2", "weighted_linf": "linf"}


class Request:
    """The arguments of one call, checked against each other.

    Attributes:
        norm: a `Norm`, "auto", or a key of `WEIGHTED`.
        region: as given; None leaves the choice.
        around: a ball of the certifier's choice is asked for, and around which state.
        theorem: "auto" or a key of `THEOREMS`.
        damping: b of the iteration.
        contraction: whether the claim is a contraction in the norm.
        watch: how long it may take, and whom to tell.

    Raises:
        InputError: an argument is unknown, or two do not go together.
    """

    def __init__(
        self,
        norm: str | Norm,
        region: Region | Around | None,
        theorem: str,
        damping: float,
        watch: Watch | None = None,
    ) -> None:
        if not isinstance(theorem, str) or (theorem != "auto" and theorem not in THEOREMS):
            raise InputError(f"theorem: got {theorem!r}; choose one of auto, {', '.join(THEOREMS)}")
        b = exact_number(damping)
        if b == 0 or not abs(b) < math.inf:
            raise InputError(f"damping: got {damping!r}; it must be a finite number of float64 and not 0")
        named = not (isinstance(norm, str) and norm == "auto")
        if named and not (isinstance(norm, str) and norm in WEIGHTED):
            norm = as_norm(norm)
        check_kind(region, around=True)
        self.around = region if isinstance(region, Around) else None
        self.region = None if isinstance(region, Around) else region
        self.norm, self.theorem, self.damping, self.watch = norm, theorem, b, watch or Watch()
        kind = THEOREMS[theorem].claim if theorem != "auto" else "contraction" if named else "converges"
        self._kind, self.contraction = kind, kind == "contraction"
        self._refuse_misfits()

    def _refuse_misfits(self) -> None:
        theorem, local = THEOREMS.get(self.theorem), isinstance(self.region, Ball | Box)
        if theorem is None:
            return
        if self.around is not None and theorem.name not in AROUND:
            raise InputError(f'region: Around is for theorem auto, {", ".join(AROUND)}; got "{theorem.name}"')
        local = local or self.around is not None
        if theorem.region == "ball" and not (self.around or isinstance(self.region, Ball)):
            raise InputError(f'region: theorem "{theorem.name}" needs a Ball(center, radius) or Around()')
        if theorem.region == "local" and not local:
            needed = "needs a Ball(center, radius), a Box(lower, upper) or Around()"
            raise InputError(f'region: theorem "{theorem.name}" {needed}')
        if theorem.region == "global" and local:
            kind = type(self.region).__name__
            raise InputError(f'region: theorem "{theorem.name}" holds globally; use "local_picard" for a {kind}')
        order = self._order()
        if order is not None and order not in theorem.orders:
            orders = " and ".join(f"{order} and its weighted forms" for order in theorem.orders)
            raise InputError(f'norm: theorem "{theorem.name}" is about {orders}, got {self.norm!r}')

    def _order(self) -> str | None:
        if isinstance(self.norm, Norm):
            return self.norm.order
        return WEIGHTED.get(self.norm)

    def claim(self, norm: Norm, region: Region) -> Claim:
        """The claim made with this norm on this region."""
        if self._kind == "unique_equilibrium":
            return UniqueEquilibrium(region)
        return Contraction(norm, region) if self.contraction else Converges(region, self.damping)

    def default_norm(self) -> Norm:
        """The norm of a claim for which none could be tried: that of the ball where it names one."""
        if isinstance(self.region, Ball) and self.region.norm is not None:
            return self.region.norm
        return self.norm if isinstance(self.norm, Norm) else Norm(WEIGHTED.get(self.norm, "l2"))

    def iteration_damping(self) -> float:
        """b of the claimed iteration: 1 where the claim is about G itself."""
        return 1.0 if self.contraction else self.damping

    def norms(self, problem: Problem, jacobian: Callable[[], Jacobian]) -> Iterator[Norm]:
        """The norms to try, the cheapest first.

        Args:
            problem: whose state the weights must fit.
            jacobian: makes the expression from which weights are proposed, when they are first needed.
        """
        given = self.region.norm if isinstance(self.region, Ball) and self.region.norm is not None else self.norm
        if isinstance(given, Norm):
            _check_weights(given, problem)
            yield given
        elif given in WEIGHTED:
            yield proposed_norm(jacobian(), WEIGHTED[given], problem.batch_dims)
        else:
            yield Norm("l2")
            orders: tuple[Order, ...] = ("linf", "l1", "l2")
            for order in orders:
                yield proposed_norm(jacobian(), order, problem.batch_dims)

    def norms_of_slopes(self, problem: Problem, jacobian: Callable[[], Jacobian]) -> Iterator[Norm]:
        """The norms for matrices of slope products: those of `norms`, with weights fitted to the matrices."""
        given = self.region.norm if isinstance(self.region, Ball) and self.region.norm is not None else self.norm
        if problem.size > CERTIFIED.unknowns:
            return
        if isinstance(given, Norm):
            yield given
            return
        if given == "auto":
            yield Norm("l2")
        orders: tuple[Order, ...] = (WEIGHTED[given],) if given in WEIGHTED else ("linf", "l1", "l2")
        yield from fitted_norms(jacobian(), orders, problem.batch_dims, CERTIFIED)

    def plain_norms(self, problem: Problem, jacobian: Callable[[], Jacobian]) -> Iterator[Norm]:
        """The norm asked for; l2, then linf where none was: for theorems whose matrices are full."""
        own = self.region.norm if isinstance(self.region, Ball) else None
        if own is None and self.norm == "auto":
            yield Norm("l2")
            yield Norm("linf")
        else:
            yield from self.norms(problem, jacobian)

    def takes_plain_l2(self) -> bool:
        """Whether the claim may be made in l2 without weights."""
        own = self.region.norm if isinstance(self.region, Ball) else None
        given = self.norm if own is None else own
        return given == "auto" or (isinstance(given, Norm) and given.order == "l2" and given.weights is None)

    def may_weight_l2(self) -> bool:
        """Whether the claim may be made in l2 with weights of the certifier's choice."""
        own = self.region.norm if isinstance(self.region, Ball) else None
        return own is None and self.norm in ("auto", "weighted_l2")

    def check_weights(self, problem: Problem) -> None:
        """Refuse a norm whose weights have not the state's shapes."""
        _check_weights(self.norm, problem)

    def ball(self, problem: Problem) -> Ball:
        """The ball asked for.

        Raises:
            InputError: it does not fit the state, or its norm not the norm asked for.
        """
        ball = self.region
        if not isinstance(ball, Ball):
            raise InputError("region: a Ball(center, radius) is needed")
        _check_ball(ball, problem)
        if ball.norm is not None:
            if self.norm not in ("auto", ball.norm.order, ball.norm):
                raise InputError("norm: the Ball names another norm; give one of the two")
            _check_weights(ball.norm, problem)
        return ball

    def asks_around(self, name: str) -> bool:
        """Whether a theorem is tried in balls of the certifier's choice."""
        return name == self.theorem or (self.theorem == "auto" and (name == "local_picard" or not self.contraction))

    def center(self, problem: Problem) -> tuple[Tensor, ...] | None:
        """The state around which a ball is asked for, None for the computed equilibrium.

        Raises:
            InputError: it does not fit the state.
        """
        leaves = None if self.around is None else self.around.leaves
        if leaves is not None:
            _check_ball(Ball(leaves, 1.0), problem)
        return leaves

    def box(self, problem: Problem) -> Box:
        """The box asked for.

        Raises:
            InputError: it does not fit the state.
        """
        if not isinstance(self.region, Box):
            raise InputError("region: a Box(lower, upper) is needed")
        _check_box(self.region, problem)
        return self.region


def check_region(region: Region, problem: Problem) -> Region:
    """The region itself.

    Raises:
        InputError: it has not the state's shapes, or holds NaN or infinity.
    """
    if isinstance(region, Ball):
        _check_ball(region, problem)
        _check_weights(region.norm, problem)
    elif isinstance(region, Box):
        _check_box(region, problem)
    return region


def _check_box(box: Box, problem: Problem) -> None:
    """Refuse a box that has not the state's shapes."""
    got, expected = ([tuple(leaf.shape) for leaf in leaves] for leaves in (box.ends[0], problem.example))
    if got != expected:
        raise InputError(f"region: the Box' ends have shape {got}, the state {expected}")


def _check_weights(norm: Any, problem: Problem) -> None:
    if not isinstance(norm, Norm) or norm.weights is None:
        return
    got = [tuple(weight.shape) for weight in norm.weights]
    if got != problem.problem_shapes:
        raise InputError(f"norm: weights of shape {got}, the state of one problem has {problem.problem_shapes}")


def _check_ball(ball: Ball, problem: Problem) -> None:
    got, expected = (
        [tuple(leaf.shape) for leaf in ball.leaves],
        [tuple(leaf.shape) for leaf in problem.example],
    )
    if got != expected:
        raise InputError(f"region: the centre has shape {got}, the state {expected}")
    if not all(bool(leaf.isfinite().all()) for leaf in ball.leaves):
        raise InputError("region: the centre holds NaN or infinity")
