"""Assertions about operators and certificates. Each names its theorem and prints what reproduces the failure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops import ConvergenceError, ImplicitAdjoint, InputError, Picard, Result, Solver, Tolerance, Unrolled, solve
from deqops._errors import ModelFileError
from deqops._operators import Operator
from deqops.verify import Certificate, Global, Norm, Region, Verdict, certify, check

from ._code import code_of

ROUNDING = 64.0
"""Gradients that differ by this many units of rounding of the incoming ones may be the same."""


def assert_contractive(
    operator: Any,
    state: Any,
    *inputs: Any,
    rate: float = 1.0,
    norm: str | Norm = "auto",
    region: Region | None = None,
    batch_dims: int = 1,
) -> Certificate:
    """T1 `picard`: the operator is certified to contract, by a rate of at most `rate`, below 1 in any case.

    Returns:
        Certificate: for further assertions.

    Raises:
        AssertionError: refuted (with the two states that show it), unknown (with the reason), or a larger rate.
    """
    certificate = certify(operator, state, *inputs, theorem="picard", norm=norm, region=region, batch_dims=batch_dims)
    if certificate.verdict is not Verdict.CERTIFIED:
        _fail("T1 picard", f"not certified as a contraction:\n{certificate.explain()}", state, inputs)
    if certificate.rate is None or not certificate.rate <= rate:
        _fail("T1 picard", f"certified with rate {certificate.rate!r}, above {rate!r}", state, inputs)
    return certificate


def assert_unique_equilibrium(
    operator: Any, state: Any, *inputs: Any, region: Region | None = None, batch_dims: int = 1
) -> Certificate:
    """T1, T5, T8 or T11, whichever is found first: there is exactly one equilibrium, everywhere or in the region.

    Raises:
        AssertionError: refuted, as by two equilibria, or unknown.
    """
    where = Global() if region is None else region
    certificate = certify(operator, state, *inputs, region=where, batch_dims=batch_dims)
    if certificate.verdict is not Verdict.CERTIFIED:
        _fail("T1, T5, T8, T11", f"no unique equilibrium certified:\n{certificate.explain()}", state, inputs)
    return certificate


def assert_converges(
    operator: Operator,
    state: Any,
    *inputs: Any,
    solver: Solver | None = None,
    within: int = 200,
    tolerance: Tolerance | None = None,
    batch_dims: int = 1,
) -> Any:
    """T1 `picard`: the solver meets the tolerance within so many evaluations, for every problem.

    Returns:
        Solution: of the solve.

    Raises:
        AssertionError: a problem did not converge.
    """
    try:
        return solve(
            operator,
            state,
            *inputs,
            solver=Picard() if solver is None else solver,
            tolerance=tolerance,
            max_evaluations=within,
            batch_dims=batch_dims,
        )
    except ConvergenceError as error:
        _fail("T1 picard", f"{error}", state, inputs)


def assert_bounds_hold(certificate: Certificate, operator: Any, equilibrium: Any, *inputs: Any, states: Any) -> None:
    """T1's, or another theorem's, error bound: no state is farther from the equilibrium than it says.

    Args:
        certificate: of the operator, with a rate.
        operator: as certified.
        equilibrium: the true one, exactly.
        inputs: of the operator.
        states: some to compare, each like the equilibrium.

    Raises:
        AssertionError: a bound is below a distance by more than that distance's rounding, or is NaN.
        InputError: there are no states, so that nothing would be compared.
    """
    compared = list(states)
    if not compared:
        raise InputError("states: there are none to compare; give at least one")
    for state in compared:
        proven = certificate.error_bound(operator, state, *inputs).l2
        distance = _distances(state, equilibrium, len(proven))
        if not bool((proven >= distance * (1 - 1e-12)).all()):
            message = f"error bound {proven.tolist()} is below the distance {distance.tolist()}"
            _fail(f"T1 ({certificate.theorem})", message, state, inputs, equilibrium=equilibrium)


def assert_accepted(certificate: Any, operator: Any, state: Any, *inputs: Any) -> None:
    """The independent checker accepts the certificate, its document or its file.

    Raises:
        AssertionError: it does not; with its report.
    """
    report = check(certificate, operator, state, *inputs)
    if not report.accepted:
        _fail(
            getattr(certificate, "theorem", "checker"), f"the checker rejects the certificate:\n{report}", state, inputs
        )


def assert_rejected(certificate: Any, operator: Any, state: Any, *inputs: Any) -> None:
    """The independent checker does not accept the certificate, or its document; it may refuse to read it.

    Raises:
        AssertionError: it accepts it.
    """
    try:
        report = check(certificate, operator, state, *inputs)
    except ModelFileError:
        return
    if report.accepted:
        _fail("checker", f"the checker accepts what is false:\n{report}", state, inputs)


def assert_gradients_match(
    operator: Operator, state: Any, *inputs: Any, steps: int = 200, relative: float = 1e-4, batch_dims: int = 1
) -> None:
    """T14 `implicit_gradient`: implicit gradients in the inputs are those of `steps` unrolled steps, to `relative`.

    That is of the largest input's gradient; the rounding of what comes in from the value's side is not counted.

    Raises:
        AssertionError: they differ.
        InputError: no input is a floating tensor, so that nothing would be compared.
    """
    tolerance = Tolerance(relative=relative / 100)
    found = []
    for adjoint in (ImplicitAdjoint(tolerance=tolerance), Unrolled(steps)):
        leaves, spec = pytree.tree_flatten(inputs)
        leaves = [_with_gradient(leaf) for leaf in leaves]
        solution = solve(
            operator,
            state,
            *pytree.tree_unflatten(leaves, spec),
            adjoint=adjoint,
            tolerance=tolerance,
            batch_dims=batch_dims,
            max_evaluations=10_000,
        )
        wanted = [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not wanted:
            raise InputError("inputs: none is a floating tensor, by which to differentiate; give one")
        found.append(_gradients(solution.value, wanted))
    value = [leaf.detach() for leaf in pytree.tree_leaves(solution.value)]
    rounding = ROUNDING * max(torch.finfo(leaf.dtype).eps * float((2 * leaf + 1).norm()) for leaf in value)
    largest = max(float(unrolled.norm()) for unrolled in found[1])
    for ours, unrolled in zip(*found, strict=True):
        difference = float((ours - unrolled).norm())
        if not difference <= relative * largest + rounding:
            message = f"gradients differ by {difference:g}, the largest is of size {largest:g}"
            _fail("T14 implicit_gradient", message, state, inputs)


def _gradients(value: Any, wanted: list[Tensor]) -> tuple[Tensor, ...]:
    """Those of the sum of `v^2 + v` over all entries; 0 where it does not depend on a tensor."""
    leaves = pytree.tree_leaves(value)
    if not any(leaf.requires_grad for leaf in leaves):
        return tuple(torch.zeros_like(leaf) for leaf in wanted)
    total = sum(leaf.square().sum() + leaf.sum() for leaf in leaves)
    return torch.autograd.grad(total, wanted, allow_unused=True, materialize_grads=True)


def assert_batch_independent(operator: Operator, state: Tensor, *inputs: Any, solver: Solver | None = None) -> None:
    """A problem's equilibrium does not change a bit when its companions' states do.

    Args:
        operator: on states (batch, ...).
        state: where to start; its first problem is kept, the others start elsewhere.
        inputs: of the operator.
        solver: None for `Anderson()`.

    Raises:
        AssertionError: the first problem's value changed, or is none.
        InputError: there is one problem only, which has no companions.
    """
    if len(state) < 2:
        raise InputError(f"state: got {len(state)} problem; give at least two, for one has no companions")
    other = state.clone()
    other[1:] += 1.0
    found = [solve(operator, start, *inputs, solver=solver, throw=False) for start in (state, other)]
    if any(solution.results[0] is Result.NONFINITE for solution in found):
        _fail("independence", "the first problem has no value: the operator returned NaN or infinity", state, inputs)
    values = [solution.value[0] for solution in found]
    if not torch.equal(values[0], values[1]):
        largest = float((values[0] - values[1]).abs().max())
        _fail("independence", f"the first problem's value changed by up to {largest:g}", state, inputs)


def _with_gradient(leaf: Any) -> Any:
    floating = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf.detach().clone().requires_grad_() if floating else leaf


def _distances(state: Any, equilibrium: Any, problems: int) -> Tensor:
    """l2 over all leaves, per problem."""
    parts = [
        (a - b).double().reshape(problems, -1)
        for a, b in zip(pytree.tree_leaves(state), pytree.tree_leaves(equilibrium), strict=True)
    ]
    norms: Tensor = torch.linalg.vector_norm(torch.cat(parts, dim=1), dim=1)
    return norms


def _fail(theorem: str, message: str, state: Any, inputs: Any, **further: Any) -> Any:
    """Raise with the theorem, what happened, and code that makes the arguments again."""
    names = {"state": state, "inputs": tuple(inputs), **further}
    code = "\n".join(f"  {name} = {code_of(value)}" for name, value in names.items())
    raise AssertionError(f"[{theorem}] {message}\nreproduce with the operator and\n  import torch\n{code}")
