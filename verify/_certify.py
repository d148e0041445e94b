"""`certify`: which theorem's hypotheses does this operator satisfy, provably?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError, UnsupportedOperationError
from deqops.graph import MixesProblemsError, OperatorGraph, check_independent, tensor_digest, trace

from ._certificate import Certificate, InputRecord, TwoPoints, dtype_name
from ._claim import Claim, Contraction, Converges, UniqueEquilibrium, Verdict
from ._monotone import single_layer
from ._monotone_weights import LARGEST_SEARCHED, proposed_weights
from ._norm import Norm, Order, as_norm
from ._problem import Problem
from ._refute import refuting_points
from ._region import Ball, Global, Region
from ._theorems import Finding, damped, local_picard, monotone, picard
from ._weights import proposed_norm

Theorem = Literal["auto", "picard", "local_picard", "damped", "monotone"]
WEIGHTED = {"weighted_l1": "l1", "weighted_l2": "l2", "weighted_linf": "linf"}
_RADII = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8)


def certify(
    G: Any,
    *arguments: Any,
    norm: str | Norm = "auto",
    region: Region | None = None,
    theorem: Theorem = "auto",
    damping: float | None = None,
    batch_dims: int | None = None,
) -> Certificate:
    """Prove, refute or leave open that an operator's iteration converges.

    `certify(layer, *inputs)` takes an `EquilibriumLayer`; `certify(G, y0, *inputs)` anything that
    `deqops.graph.trace` takes: a module, a callable, an exported program, an `OperatorGraph`. The verdict is about
    the exact-real function of the exported graph at these shapes, in eval mode.

    Args:
        G: the layer or operator.
        arguments: inputs of the layer, or the example state and the inputs.
        norm: "auto" tries l2, then weighted linf, l1 and l2; "l1", "l2", "linf" name one norm; "weighted_l1",
            "weighted_l2", "weighted_linf" search for weights; or a `Norm`.
        region: `Global()`, a `Ball`, or None: everywhere first, then around the computed equilibrium (the latter
            only for theorem "auto").
        theorem: "picard" or "local_picard" claim a contraction in the norm, and are refuted by two points that G
            does not bring closer; naming a norm with "auto" claims the same. "damped" and "auto" claim that the
            damped iteration converges to the one equilibrium in the region. "monotone" claims that there is exactly
            one equilibrium everywhere, which "auto" falls back to where no global convergence could be shown.
        damping: b of `y <- (1-b) y + b G(y)`; None: the layer's Picard solver's, else 1.
        batch_dims: 1 where dimension 0 of the state counts independent problems (the default), else 0; a layer
            and an `OperatorGraph` bring their own.

    Returns:
        Certificate: `verdict` is `UNKNOWN`, with a reason that names the operation, whenever a rule is missing.

    Raises:
        InputError: an argument does not fit; NaN or infinity in weights or fixed values.
    """
    if theorem not in get_args(Theorem):
        raise InputError(f"theorem: got {theorem!r}; choose one of {', '.join(get_args(Theorem))}")
    operator, state, inputs, own_damping = _arguments(G, arguments, batch_dims)
    request = _Request(norm, region, theorem, own_damping if damping is None else float(damping))
    dims, fingerprint = _batch_dims(G, batch_dims), ""
    try:
        traced = trace(operator, state, *inputs, batch_dims=dims)
        fingerprint = traced.fingerprint
        if traced.impure:
            reason = f"the operator is not one fixed map: {', '.join(traced.impure)}; use eval mode"
            return _not_understood(request, state, inputs, dims, fingerprint, reason)
        certifier = _Certifier(traced, state, inputs, request)
    except UnsupportedOperationError as error:
        return _not_understood(request, state, inputs, dims, fingerprint, str(error))
    return certifier.run()


class _Request:
    """What was asked: norm, region, theorem, damping."""

    def __init__(self, norm: str | Norm, region: Region | None, theorem: Theorem, damping: float) -> None:
        if damping == 0 or not abs(damping) < float("inf"):
            raise InputError(f"damping: got {damping!r}; it must be finite and not 0")
        named = isinstance(norm, Norm) or norm != "auto"
        if isinstance(norm, str) and norm != "auto" and norm not in WEIGHTED:
            norm = as_norm(norm)
        self.norm, self.region, self.theorem, self.damping = norm, region, theorem, damping
        self.contraction = theorem in ("picard", "local_picard") or (theorem == "auto" and named)
        if theorem == "local_picard" and not isinstance(region, Ball):
            raise InputError('region: theorem "local_picard" needs a Ball(center, radius)')
        if theorem == "monotone" and (norm.order if isinstance(norm, Norm) else norm) not in (
            "auto",
            "l2",
            "weighted_l2",
        ):
            raise InputError(f'norm: theorem "monotone" is about l2 and its weighted forms, got {norm!r}')
        if theorem in ("picard", "damped", "monotone") and isinstance(region, Ball):
            raise InputError(f'region: theorem "{theorem}" holds globally; use "local_picard" for a Ball')

    def claim(self, norm: Norm, region: Region) -> Claim:
        """The claim made with this norm on this region."""
        if self.theorem == "monotone":
            return UniqueEquilibrium(region)
        return Contraction(norm, region) if self.contraction else Converges(region, self.damping)

    def default_norm(self) -> Norm:
        """The norm of a claim for which none could be tried."""
        if isinstance(self.norm, Norm):
            return self.norm
        order: Any = WEIGHTED.get(self.norm, "l2")
        return Norm(order)


class _Certifier:
    def __init__(self, operator: OperatorGraph, state: Any, inputs: tuple[Any, ...], request: _Request) -> None:
        self._operator, self._inputs, self._request = operator, inputs, request
        self._state = state
        self._problem = Problem(operator, state, inputs)
        self._findings: list[Finding] = []

    def run(self) -> Certificate:
        """Theorems in the order of cost, then a refutation where the claim allows one."""
        reason = self._not_applicable()
        if reason:
            return self._certificate(Verdict.UNKNOWN, None, reason=reason)
        try:
            for finding in self._attempts():
                self._findings.append(finding)
                if finding.holds:
                    return self._certificate(Verdict.CERTIFIED, finding)
        except UnsupportedOperationError as error:
            reason = str(error)
        if self._request.contraction:
            found = self._refutation()
            if found is not None:
                return found
        return self._certificate(Verdict.UNKNOWN, None, reason=reason or self._closest())

    def _not_applicable(self) -> str:
        try:
            check_independent(self._problem.graph)
        except (MixesProblemsError, UnsupportedOperationError) as error:
            return f"{error}; if the whole state is one problem, say batch_dims=0"
        return ""

    # --------------------------------------------------------------------------------------------- attempts

    def _attempts(self) -> Iterator[Finding]:
        request, region = self._request, self._request.region
        if isinstance(region, Ball):
            yield from self._local(region)
            return
        if request.theorem == "monotone":
            yield from self._monotone()
            return
        for norm in self._norms(lambda: self._problem.jacobian):
            if request.theorem == "damped":
                yield damped(self._problem, norm, request.damping)
            elif request.contraction or request.damping == 1:
                yield picard(self._problem, norm)
            else:
                yield picard(self._problem, norm, request.damping)
        if not request.contraction and request.theorem == "auto":
            yield from self._monotone()
            if region is None:
                yield from self._around_equilibrium()

    def _monotone(self) -> Iterator[Finding]:
        """T5 in plain l2, then in l2 with proposed weights."""
        layer, wanted = single_layer(self._problem.jacobian), self._request.norm
        if layer is None:
            if self._request.theorem == "monotone":
                raise UnsupportedOperationError("operator", "theorem monotone needs the form s(W z + c)")
            return
        if isinstance(wanted, Norm):
            _check_weights(wanted, self._problem)
            yield monotone(self._problem, layer, wanted)
            return
        if wanted != "weighted_l2":
            yield monotone(self._problem, layer, Norm("l2"))
        if wanted != "l2" and layer.weight.shape[0] <= LARGEST_SEARCHED:
            proposal = proposed_weights(layer.weight.mid, float(layer.lower.mid), float(layer.upper.mid))
            weights = proposal.expand(self._problem.problem_shapes[0]).clone()
            yield monotone(self._problem, layer, Norm("l2", (weights,)))

    def _norms(self, jacobian: Callable[[], Any]) -> Iterator[Norm]:
        wanted = self._request.norm
        if isinstance(wanted, Norm):
            _check_weights(wanted, self._problem)
            yield wanted
        elif wanted in WEIGHTED:
            yield proposed_norm(jacobian(), _order(WEIGHTED[wanted]), self._problem.batch_dims)
        else:
            yield Norm("l2")
            for order in ("linf", "l1", "l2"):
                yield proposed_norm(jacobian(), _order(order), self._problem.batch_dims)

    def _local(self, ball: Ball) -> Iterator[Finding]:
        _check_ball(ball, self._problem)
        if ball.norm is not None:
            if self._request.norm not in ("auto", ball.norm.order, ball.norm):
                raise InputError("norm: the Ball names another norm; give one of the two")
            _check_weights(ball.norm, self._problem)
            yield local_picard(self._problem, ball.norm, ball, self._iteration_damping())
            return
        from ._local import local_jacobian

        for norm in self._norms(lambda: local_jacobian(self._problem, ball, Norm("linf"))):
            yield local_picard(self._problem, norm, ball, self._iteration_damping())

    def _iteration_damping(self) -> float:
        return 1.0 if self._request.contraction else self._request.damping

    def _around_equilibrium(self) -> Iterator[Finding]:
        center = self._computed_equilibrium()
        if center is None:
            return
        scale = max(1.0, max(float(leaf.abs().max()) for leaf in center if leaf.numel()))
        smallest = 4 * float(self._problem.residual(list(center), Norm("l2")).max()) + 1e-13 * scale
        if not math.isfinite(smallest):
            return  # values overflow near the point: no ball can be enclosed
        # Slopes only widen with the radius: a norm that fails on the smallest ball is not tried on larger ones.
        tiny = list(self._local(Ball(center, smallest)))
        hopeful = [finding.norm for finding in tiny if finding.bound is not None and finding.bound < 1]
        for radius in (factor * scale for factor in _RADII if factor * scale > smallest):
            for norm in hopeful:
                yield local_picard(self._problem, norm, Ball(center, radius), self._iteration_damping())
        yield from tiny

    def _computed_equilibrium(self) -> tuple[Tensor, ...] | None:
        from deqops import Anderson, Tolerance, solve

        with torch.no_grad():
            solution = solve(
                self._operator,
                self._state,
                *self._inputs,
                solver=Anderson(),
                tolerance=Tolerance(relative=0.0, absolute=0.0),
                max_evaluations=200,
                batch_dims=self._problem.batch_dims,
                throw=False,
            )
        leaves = tuple(leaf.detach().to(torch.float64) for leaf in pytree.tree_leaves(solution.value))
        return leaves if all(bool(leaf.isfinite().all()) for leaf in leaves) else None

    # ------------------------------------------------------------------------------------------ certificates

    def _refutation(self) -> Certificate | None:
        region = self._request.region or Global()
        tried = [finding.norm for finding in self._findings]
        norm = tried[0] if tried else self._request.default_norm()
        if isinstance(region, Ball):
            region = Ball(region.center, region.radius, region.norm or norm)
        try:
            witness = refuting_points(self._problem, self._inputs, norm, region)
        except UnsupportedOperationError:
            return None
        if witness is None:
            return None
        return self._certificate(Verdict.REFUTED, None, claim=Contraction(norm, region), witness=witness)

    def _closest(self) -> str:
        if not self._findings:
            return "no theorem could be tried"
        best = min(self._findings, key=lambda f: f.rate if f.rate is not None and f.rate == f.rate else float("inf"))
        return f"no theorem's hypotheses could be verified; the closest: {best.describe()}"

    def _certificate(
        self,
        verdict: Verdict,
        finding: Finding | None,
        *,
        reason: str = "",
        claim: Contraction | None = None,
        witness: TwoPoints | None = None,
    ) -> Certificate:
        norm, region = self._subject(finding, claim)
        proven = UniqueEquilibrium(region) if finding is not None and finding.theorem == "monotone" else None
        made = claim or proven or self._request.claim(norm, region)
        fixed = finding.inputs if finding is not None else frozenset(range(len(self._problem.graph.inputs)))
        return Certificate(
            claim=made,
            verdict=verdict,
            region=region,
            norm=norm,
            state=tuple((tuple(leaf.shape), dtype_name(leaf)) for leaf in self._problem.example),
            batch_dims=self._problem.batch_dims,
            fingerprint=self._operator.fingerprint,
            inputs=self._records(fixed),
            theorem="refute" if witness is not None else finding.theorem if finding else None,
            rate=finding.rate if finding else None,
            bound=finding.bound if finding else None,
            residual=finding.residual if finding else None,
            monotonicity=finding.monotonicity if finding else None,
            factor=finding.factor if finding else None,
            hypotheses=finding.hypotheses if finding else (),
            contributions=finding.contributions if finding else (),
            witness=witness,
            reason=reason,
            attempts=tuple(f.describe() for f in self._findings if f is not finding),
        )

    def _subject(self, finding: Finding | None, claim: Contraction | None) -> tuple[Norm, Region]:
        if finding is not None:
            return finding.norm, finding.region
        if claim is not None:
            return claim.norm, claim.region
        norm = self._findings[0].norm if self._findings else self._request.default_norm()
        region = self._request.region or Global()
        if isinstance(region, Ball):
            region = Ball(region.center, region.radius, region.norm or norm)
        return norm, region

    def _records(self, fixed: frozenset[int]) -> tuple[InputRecord, ...]:
        records = []
        for number, value in enumerate(self._problem.graph.inputs):
            leaf = self._problem.graph.leaves[value]
            digest = tensor_digest(leaf.tensor) if number in fixed else None
            records.append(InputRecord(leaf.name, tuple(leaf.tensor.shape), dtype_name(leaf.tensor), digest))
        return tuple(records)


# ------------------------------------------------------------------------------------------------- arguments


def _arguments(G: Any, arguments: tuple[Any, ...], batch_dims: int | None) -> tuple[Any, Any, tuple[Any, ...], float]:
    from deqops import EquilibriumLayer, Picard

    if isinstance(G, EquilibriumLayer):
        if batch_dims is not None and batch_dims != G.batch_dims:
            raise InputError(f"batch_dims: the layer has {G.batch_dims}, got {batch_dims}; leave it out")
        damping = G.solver.damping if isinstance(G.solver, Picard) else 1.0
        return G.operator, G.initial_state(*arguments), arguments, damping
    if not arguments:
        raise InputError("arguments: certify(G, y0, *inputs) needs an example state y0")
    return G, arguments[0], arguments[1:], 1.0


def _batch_dims(G: Any, batch_dims: int | None) -> int:
    own = getattr(G, "batch_dims", None)
    chosen = batch_dims if batch_dims is not None else own if own is not None else 1
    if chosen not in (0, 1):
        raise InputError(f"batch_dims: got {chosen!r}; use 1 for a batch of problems, 0 for one problem")
    return int(chosen)


def _order(name: str) -> Order:
    return as_norm(name).order


def _check_weights(norm: Norm, problem: Problem) -> None:
    if norm.weights is None:
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
        raise InputError(f"region: the Ball's centre has shape {got}, the state {expected}")
    if not all(bool(leaf.isfinite().all()) for leaf in ball.leaves):
        raise InputError("region: the Ball's centre holds NaN or infinity")


def _not_understood(
    request: _Request, state: Any, inputs: tuple[Any, ...], batch_dims: int, fingerprint: str, reason: str
) -> Certificate:
    """Verdict unknown for an operator that has no operator graph at these shapes."""
    norm, region = request.default_norm(), request.region or Global()
    if isinstance(region, Ball):
        region = Ball(region.center, region.radius, region.norm or norm)
    leaves = pytree.tree_leaves(inputs)
    return Certificate(
        claim=request.claim(norm, region),
        verdict=Verdict.UNKNOWN,
        region=region,
        norm=norm,
        state=tuple((tuple(leaf.shape), dtype_name(leaf)) for leaf in pytree.tree_leaves(state)),
        batch_dims=batch_dims,
        fingerprint=fingerprint,
        inputs=tuple(
            InputRecord(f"input_{n}", tuple(leaf.shape), dtype_name(leaf), tensor_digest(leaf))
            for n, leaf in enumerate(leaves)
        ),
        reason=reason,
    )
