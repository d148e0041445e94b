"""`certify`: which theorem's hypotheses does this operator satisfy, provably?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils import _pytree as pytree

from deqops._errors import InputError, UnsupportedOperationError
from deqops._tree import check_batch_dims
from deqops.graph import MixesProblemsError, OperatorGraph, check_independent, tensor_digest, trace

from ._agreement import disagreement
from ._around import around
from ._certificate import Certificate, InputRecord, dtype_name
from ._claim import Verdict
from ._impure import not_one_map
from ._input_box import middles, places_in
from ._norm import Norm
from ._problem import Problem
from ._refute import Refuted, refutation
from ._region import Around, Ball, Box, Global, Region, stated
from ._request import Request
from ._theorems import AUTO, THEOREMS, Finding
from ._watch import Progress, Watch


def certify(
    G: Any,
    *arguments: Any,
    norm: str | Norm = "auto",
    region: Region | Around | None = None,
    theorem: str = "auto",
    damping: float | None = None,
    batch_dims: int | None = None,
    budget: float | None = None,
    progress: Progress | None = None,
) -> Certificate:
    """Prove, refute or leave open that an operator's iteration converges.

    `certify(layer, *inputs)` takes an `EquilibriumLayer`; `certify(G, y0, *inputs)` anything that
    `deqops.graph.trace` takes: a module, a callable, an exported program, an `OperatorGraph`. The verdict is about
    the exact-real function of the exported graph at these shapes, in eval mode.

    Args:
        G: the layer or operator.
        arguments: inputs of the layer, or the example state and the inputs. An `InputBox` among them claims it for all
            its values: where the region is a ball or a box, each of them has its own equilibrium there. One value
            refutes it, the middle or an end: the certificate then has that value as its fixed input.
        norm: "auto" tries l2, then weighted linf, l1 and l2; "l1", "l2", "linf" name one norm; "weighted_l1",
            "weighted_l2", "weighted_linf" search for weights; or a `Norm`.
        region: `Global()`, a `Ball`, a `Box`, `Around(y)` for the largest ball that is found around a state (the
            computed equilibrium where none is given), or None: everywhere first, then `Around()` (the latter only
            for theorem "auto").
        theorem: "picard" or "local_picard" claim a contraction in the norm, and are refuted by two points that G
            does not bring closer; naming a norm with "auto" claims the same. "auto" and the others but two claim that
            the damped iteration converges to the one equilibrium in the region. "monotone" claims that there is exactly
            one equilibrium everywhere, "newton_kantorovich" that there is exactly one in the ball; "auto" falls back
            to these where no convergence could be shown. "componentwise" speaks of all states, of a Box or of a Ball in
            linf, weighted or not; "auto" tries it in a Box only.
        damping: b of `y <- (1-b) y + b G(y)`; None: the layer's Picard solver's, else 1.
        batch_dims: 1 where dimension 0 of the state counts independent problems (the default), else 0; a layer
            and an `OperatorGraph` bring their own.
        budget: seconds, None for as long as it takes. It is looked at between attempts and inside the long ones; what
            is not tried any more may leave the verdict open, and changes no number of those that were. The first
            attempt is always made.
        progress: called with a few words when an attempt starts and when it has ended.

    Returns:
        Certificate: `verdict` is `UNKNOWN`, with a reason that names the operation, whenever a rule is missing.

    Raises:
        InputError: an argument does not fit; NaN or infinity in weights or fixed values.
    """
    given, watch = given_arguments(G, arguments, batch_dims), Watch(budget, progress)
    request = Request(norm, region, theorem, given.damping if damping is None else damping, watch)
    dims = _batch_dims(G, batch_dims)
    try:
        traced: OperatorGraph | UnsupportedOperationError = trace(
            given.operator, given.state, *middles(given.inputs), batch_dims=dims
        )
    except UnsupportedOperationError as error:
        traced = error
    return certified(traced, given, request, dims, {})


def certified(
    traced: OperatorGraph | UnsupportedOperationError,
    given: Arguments,
    request: Request,
    batch_dims: int,
    shared: dict[str, tuple[Finding, ...]],
) -> Certificate:
    """The certificate for a traced operator, or one that says why it could not be traced.

    Args:
        traced: the operator, or what kept it from being traced.
        given: the arguments of the call.
        request: what is asked.
        batch_dims: of the operator.
        shared: findings that hold whatever the inputs are, by theorem, for calls with the same operator, shapes and
            request; new ones are added.
    """
    if isinstance(traced, UnsupportedOperationError):
        return _not_understood(request, given.state, given.inputs, batch_dims, "", str(traced))
    try:
        if traced.impure:
            reason = not_one_map(traced.impure)
            return _not_understood(request, given.state, given.inputs, batch_dims, traced.fingerprint, reason)
        certifier = _Certifier(traced, given.state, given.inputs, request, shared)
    except UnsupportedOperationError as error:
        return _not_understood(request, given.state, given.inputs, batch_dims, traced.fingerprint, str(error))
    return certifier.run()


_IN_BALLS = ("local_picard", "local_lyapunov", "newton_kantorovich")
_IN_BOXES = ("local_picard", "componentwise")
"""What `theorem="auto"` tries in a ball or a box that was given."""


def _tried_in(region: Ball | Box) -> tuple[str, ...]:
    """What `theorem="auto"` tries there: T12 is about balls of plain l2."""
    if isinstance(region, Box):
        return _IN_BOXES
    plain = region.norm is None or region.norm.describe() == "l2"
    return tuple(name for name in _IN_BALLS if plain or name != "local_lyapunov")


class _Certifier:
    def __init__(
        self,
        operator: OperatorGraph,
        state: Any,
        inputs: tuple[Any, ...],
        request: Request,
        shared: dict[str, tuple[Finding, ...]],
    ) -> None:
        self._operator, self._inputs, self._request = operator, middles(inputs), request
        self._state, self._given = state, inputs
        self._problem = Problem(operator, state, inputs)
        self._shared, self._findings = shared, list[Finding]()
        self._unsupported: list[tuple[str, str]] = []
        self._near = ""  # what is in the way of a ball around the equilibrium
        self._remarks: list[str] = []

    def run(self) -> Certificate:
        """Theorems in the order of cost, then a refutation where the claim allows one."""
        reason, watch = self._not_applicable(), self._request.watch
        if reason:
            return self._open(reason)
        for finding in self._attempts():
            self._findings.append(finding)
            watch.tell(finding.describe())
            if finding.holds:
                return self._if_read_right(self._certified(finding))
            if watch.spent:
                return self._open(self._closest())
        refuted = None if self._request.around is not None else self._refutation()
        return self._if_read_right(refuted) if refuted is not None else self._open(self._closest())

    def _if_read_right(self, verdict: Certificate) -> Certificate:
        """A verdict, where the graph that it is about gives what the program gives at the example."""
        differs = disagreement(self._operator, self._problem, self._inputs)
        return self._open(differs) if differs else verdict

    def _refutation(self) -> Certificate | None:
        """Of the claim at the inputs; where they lie between two ends, at one of three values, which is enough."""
        if not self._problem.boxes:
            return self._refuted_for(self._problem, self._inputs, "")
        for place, inputs in places_in(self._given):
            if self._request.watch.spent:
                self._remarks.append("refute: the budget was spent before every value of the box was looked at")
                return None
            try:
                problem = Problem(self._operator, self._state, inputs)
            except UnsupportedOperationError as error:
                self._remarks.append(f"refute: {place}: {error}")
                continue
            found = self._refuted_for(problem, inputs, place)
            if found is not None:
                return found
        return None

    def _refuted_for(self, problem: Problem, inputs: tuple[Any, ...], place: str) -> Certificate | None:
        self._request.watch.tell(f"looking for a refutation {place}".strip())
        outcome = refutation(problem, inputs, self._request, self._findings)
        self._remarks += [f"{text} ({place})" if place else text for text in outcome.remarks]
        if outcome.refutation is None:
            return None
        if place:
            self._remarks.append(f"refute: found {place}, at the fixed value that this certificate is about")
        self._problem, self._inputs = problem, inputs
        return self._refuted(outcome.refutation)

    def _not_applicable(self) -> str:
        try:
            check_independent(self._problem.written_out)
        except (MixesProblemsError, UnsupportedOperationError) as error:
            return f"{error}; if the whole state is one problem, say batch_dims=0"
        return ""

    def _attempts(self) -> Iterator[Finding]:
        request = self._request
        for number, name in enumerate(self._names()):
            if number and request.watch.spent:
                return
            request.watch.tell(f"trying {name}")
            try:
                yield from self._shared[name] if name in self._shared else self._tried(name)
            except UnsupportedOperationError as error:
                self._unsupported.append((name, str(error)))
        unasked = request.theorem == "auto" and not request.contraction and request.region is None
        if request.around is not None or (unasked and not request.watch.spent):
            request.watch.tell("looking for a ball around the equilibrium")
            located = around(self._problem, self._inputs, request)
            self._findings += located.others
            self._unsupported += located.unsupported
            self._near = next((text for _, text in located.unsupported), "")
            if located.best is not None:
                yield located.best

    def _tried(self, name: str) -> Iterator[Finding]:
        """The findings of a theorem; they are kept where no input's value has entered them."""
        found: list[Finding] = []
        for finding in THEOREMS[name].attempt(self._problem, self._request):
            found.append(finding)
            if finding.holds:
                self._keep(name, found)
            yield finding
        self._keep(name, found)

    def _keep(self, name: str, found: list[Finding]) -> None:
        everywhere = all(isinstance(finding.region, Global) and not finding.inputs for finding in found)
        if everywhere and not self._problem.constants.touched:
            self._shared[name] = tuple(found)

    def _names(self) -> tuple[str, ...]:
        request = self._request
        if request.around is not None:
            return ()
        if request.theorem != "auto":
            return (request.theorem,)
        if isinstance(request.region, Ball | Box):
            return ("local_picard",) if request.contraction else _tried_in(request.region)
        return ("picard",) if request.contraction else AUTO

    # ------------------------------------------------------------------------------------------ certificates

    def _closest(self) -> str:
        """The missing rule, or the finding whose rate is least, of those that came to one."""
        rated = [f for f in self._findings if f.rate is not None and f.rate < math.inf]
        if not rated and self._unsupported:
            return self._missing()
        watch = self._request.watch
        spent = f"the budget of {watch.budget:g} s was spent; " if watch.budget is not None and watch.spent else ""
        if not self._findings:
            return f"{spent}no theorem could be tried"
        best = min(rated or self._findings, key=lambda f: math.inf if f.rate is None else f.rate)
        return f"{spent}no theorem's hypotheses could be verified; the closest: {best.describe()}"

    def _missing(self) -> str:
        """The rule that the first theorem misses, and what else is in the way near the equilibrium."""
        first = self._unsupported[0][1]
        return first if self._near in ("", first) else f"{first}; near the equilibrium: {self._near}"

    def _certified(self, finding: Finding) -> Certificate:
        return Certificate(
            claim=finding.claim or self._request.claim(finding.norm, finding.region),
            verdict=Verdict.CERTIFIED,
            region=finding.region,
            norm=finding.norm,
            theorem=finding.theorem,
            rate=finding.rate,
            evidence=finding.evidence,
            hypotheses=finding.hypotheses,
            contributions=finding.contributions,
            attempts=tuple(f.describe() for f in self._findings if f is not finding),
            **self._common(finding.inputs),
        )

    def _refuted(self, found: Refuted) -> Certificate:
        return Certificate(
            claim=found.claim,
            verdict=Verdict.REFUTED,
            region=found.claim.region,
            norm=found.norm,
            theorem="refute",
            evidence=found.evidence,
            attempts=self._attempted(),
            **self._common(frozenset(range(len(self._problem.graph.inputs)))),
        )

    def _open(self, reason: str) -> Certificate:
        norm = self._findings[0].norm if self._findings else self._request.default_norm()
        region = stated(self._request.region, norm)
        if self._request.around is not None and self._findings:
            region = self._findings[0].region  # the least ball that was tried: nothing is said of every state
        return Certificate(
            claim=self._request.claim(norm, region),
            verdict=Verdict.UNKNOWN,
            region=region,
            norm=norm,
            reason=reason,
            attempts=self._attempted(),
            **self._common(frozenset(range(len(self._problem.graph.inputs)))),
        )

    def _attempted(self) -> tuple[str, ...]:
        unsupported = (f"{name}: {error}" for name, error in self._unsupported)
        return (*(f.describe() for f in self._findings), *unsupported, *self._remarks)

    def _common(self, fixed: frozenset[int]) -> dict[str, Any]:
        """What every verdict states of the operator and its arguments."""
        return {
            "state": tuple((tuple(leaf.shape), dtype_name(leaf)) for leaf in self._problem.example),
            "batch_dims": self._problem.batch_dims,
            "fingerprint": self._operator.fingerprint,
            "inputs": self._records(fixed),
        }

    def _records(self, fixed: frozenset[int]) -> tuple[InputRecord, ...]:
        records = []
        for number, value in enumerate(self._problem.graph.inputs):
            leaf = self._problem.graph.leaves[value]
            ends = leaf.ends if number in fixed else None
            digest = tensor_digest(leaf.tensor) if number in fixed and ends is None else None
            shape, dtype = tuple(leaf.tensor.shape), dtype_name(leaf.tensor)
            records.append(InputRecord(leaf.name, shape, dtype, digest, ends))
        return tuple(records)


# ------------------------------------------------------------------------------------------------- arguments


@dataclass(frozen=True, eq=False)
class Arguments:
    """What a call is about: an operator, an example state, the inputs, and b of the layer's own iteration."""

    operator: Any
    state: Any
    inputs: tuple[Any, ...]
    damping: float = 1.0


def given_arguments(G: Any, arguments: tuple[Any, ...], batch_dims: int | None) -> Arguments:
    """The parts of `(layer, *inputs)` or `(G, y0, *inputs)`.

    Raises:
        InputError: there is no state, or the layer has other `batch_dims`.
    """
    from deqops import EquilibriumLayer, Picard

    if isinstance(G, EquilibriumLayer):
        if batch_dims is not None and batch_dims != G.batch_dims:
            raise InputError(f"batch_dims: the layer has {G.batch_dims}, got {batch_dims}; leave it out")
        damping = G.solver.damping if isinstance(G.solver, Picard) else 1.0
        return Arguments(G.operator, G.initial_state(*middles(arguments)), arguments, damping)
    if not arguments:
        raise InputError("arguments: certify(G, y0, *inputs) needs an example state y0")
    return Arguments(G, arguments[0], arguments[1:])


def _batch_dims(G: Any, batch_dims: int | None) -> int:
    own = getattr(G, "batch_dims", None)
    chosen = batch_dims if batch_dims is not None else own if own is not None else 1
    check_batch_dims(chosen)
    return int(chosen)


def _not_understood(
    request: Request, state: Any, inputs: tuple[Any, ...], batch_dims: int, fingerprint: str, reason: str
) -> Certificate:
    """Verdict unknown for an operator that has no operator graph at these shapes."""
    norm = request.default_norm()
    region = stated(request.region, norm)
    leaves = pytree.tree_leaves(middles(inputs))
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
