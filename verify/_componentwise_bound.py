"""T13: how far each component of a state is from the equilibrium, `|y - y*| <= (I - N)^-1 |G(y) - y|`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import InputError

from . import _midrad as midrad
from ._certified import certified_problem
from ._componentwise import growth, resolvent_estimate, spread_out
from ._gains import apply_magnitude
from ._jacobian import Jacobian
from ._local import local_jacobian
from ._membership import within
from ._midrad import MidRad
from ._norm import Norm
from ._problem import Problem
from ._region import Ball, Box
from ._rounding import add_up, div_up, exact_float64, mul_up, sub_down, sub_up

if TYPE_CHECKING:
    from ._certificate import Certificate

_POLISHING = 8  # sweeps e <- min(e, r + N e), each of which keeps a bound a bound
_THEOREMS = ("componentwise", "picard", "damped", "local_picard")


def componentwise_error_bound(certificate: Certificate, G: Any, y: Any, *inputs: Any) -> tuple[Tensor, ...]:
    """T13 (Perov): proven bounds of `|y - y*|`, one for each component of the state.

    With r >= |G(y) - y| enclosed and N the entrywise bound of all slopes on the certificate's region, every e >= 0 with
    `e >= r + N e` is a bound, and `(I - N)^-1 r` the least of them. For any guess g >= 0 such an e is
    `g + s x`, `s = max (r + N g - g)_i / x_i / (1 - q)` where N x <= q x; g solves the equation approximately.

    Args:
        certificate: of theorem "componentwise", or a contraction (T1, T2, T4) in linf, weighted or not.
        G: the certified operator.
        y: a state of the certified shapes.
        inputs: the operator's inputs.

    Returns:
        A float64 tensor for each leaf of the state, of its shape; infinite for a problem whose y lies outside a local
        certificate's ball or box.

    Raises:
        InputError: the certificate is of another theorem or norm, or does not fit the operator, the state or the
            inputs.
    """
    problem = certified_problem(certificate, G, y, inputs)
    norm = certificate.norm
    if norm is None or norm.order != "linf" or certificate.theorem not in _THEOREMS:
        where = f"theorem {certificate.theorem!r} in {'no norm' if norm is None else norm.describe()}"
        raise InputError(f'certificate: {where} bounds no components; certify with theorem="componentwise"')
    leaves = pytree.tree_leaves(y)
    jacobian, inside = problem.jacobian, None
    if isinstance(certificate.region, Ball | Box):
        jacobian = local_jacobian(problem, certificate.region, norm)
        inside = within(certificate.region, norm, leaves, problem.batch_dims)
    points = [MidRad.exact(exact_float64(leaf)) for leaf in leaves]
    residual = [midrad.sub(g, z).magnitude() for g, z in zip(problem.image(leaves), points, strict=True)]
    bounds = _bounds(problem, jacobian, _vector(certificate, norm, problem), residual)
    return tuple(_believed(part, inside, problem) for part in bounds)


def _vector(certificate: Certificate, norm: Norm, problem: Problem) -> tuple[Tensor, ...]:
    """x > 0, of the evidence, or 1/w: any will do whose growth is below 1."""
    if certificate.evidence is not None and certificate.evidence.kind == "componentwise":
        return certificate.evidence.tensors["vector"]
    if norm.weights is None:
        return tuple(torch.ones(shape, dtype=torch.float64) for shape in problem.problem_shapes)
    return tuple(1 / weight for weight in norm.weights)


def _bounds(problem: Problem, jacobian: Jacobian, x: tuple[Tensor, ...], residual: list[Tensor]) -> list[Tensor]:
    """Entries e with `e >= r + N e`, near the least; infinite where nothing is shown."""
    q = growth(jacobian, x, problem.batch_dims)
    if not q < 1:
        return [torch.full_like(part, math.inf) for part in residual]
    gap, full = float(sub_down(1.0, q)), spread_out(jacobian, x, problem.batch_dims)
    rough = _above(problem, jacobian, full, gap, residual, [torch.zeros_like(part) for part in residual])
    if not all(bool(part.isfinite().all()) for part in rough):
        return rough
    guess = resolvent_estimate(lambda parts: apply_magnitude(jacobian, parts), residual, problem.batch_dims)
    close = _above(problem, jacobian, full, gap, residual, guess)
    bounds = [torch.fmin(a, b) for a, b in zip(rough, close, strict=True)]
    for _ in range(_POLISHING):
        bounds = [torch.fmin(e, up) for e, up in zip(bounds, _sweep(jacobian, residual, bounds), strict=True)]
    return bounds


def _sweep(jacobian: Jacobian, residual: list[Tensor], e: list[Tensor]) -> list[Tensor]:
    """`r + N e`, rounded upwards."""
    return [add_up(r, image) for r, image in zip(residual, apply_magnitude(jacobian, e), strict=True)]


def _above(
    problem: Problem, jacobian: Jacobian, x: list[Tensor], gap: float, residual: list[Tensor], guess: list[Tensor]
) -> list[Tensor]:
    """`g + s x`, s problem by problem: then `r + N (g + s x) <= g + s (1 - q) x + s q x`."""
    missing = [sub_up(a, g) for a, g in zip(_sweep(jacobian, residual, guess), guess, strict=True)]
    shares = [
        div_up(part.clamp(min=0.0), where).reshape(part.shape[0] if problem.batch_dims else 1, -1)
        for part, where in zip(missing, x, strict=True)
    ]
    scale = div_up(torch.cat(shares, dim=1).amax(dim=1), gap)  # (problems,)
    result = []
    for g, where in zip(guess, x, strict=True):
        s = scale.reshape(-1, *(1,) * (where.ndim - 1)) if problem.batch_dims else scale.reshape(())
        result.append(add_up(g, mul_up(s.expand(where.shape), where)))
    return result


def _believed(bound: Tensor, inside: Tensor | None, problem: Problem) -> Tensor:
    """Infinity in place of NaN, and for problems outside the region."""
    bound = torch.where(bound.isnan(), math.inf, bound)
    if inside is None:
        return bound
    where = inside.reshape(-1, *(1,) * (bound.ndim - 1)) if problem.batch_dims else inside.reshape(())
    return torch.where(where, bound, math.inf)
