"""The smallest change of a trained module's weights after which it is certified."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._layer import operator_of
from deqops.graph import check_independent, trace

from .._certificate import Certificate
from .._certify import certify
from .._gains import lipschitz_gain
from .._impure import require_one_map
from .._norm import as_norm
from .._problem import Problem
from ._weight_map import check_rate

STEPS = 16
"""Halvings of the interval that the threshold lies in; each takes one bound."""
METHODS = ("clip", "scale")


@dataclass(frozen=True)
class Change:
    """What became of one weight: `||W' - W||_F / ||W||_F`."""

    name: str
    relative: float


@dataclass(frozen=True)
class Repair:
    """A repaired copy of a module.

    Attributes:
        module: the copy; what was given is as it was.
        certificate: of the copy; `CERTIFIED` with a rate of at most the one asked for.
        threshold: the norm above which nothing was left; infinite where nothing had to change.
        changes: of the weights that were changed.
        relative_change: of all weights that the contraction depends on, taken together, in the Frobenius norm.
        before: `evaluate` of the module, None without it.
        after: `evaluate` of the copy, None without it.
    """

    module: Any
    certificate: Certificate
    threshold: float
    changes: tuple[Change, ...]
    relative_change: float
    before: float | None
    after: float | None


def repair(
    G: Any,
    *arguments: Any,
    rate: float = 0.95,
    norm: str = "l2",
    method: str = "clip",
    evaluate: Callable[[Any], float] | None = None,
) -> Repair:
    """A copy of G, its weights changed as little as the method can, that is certified to contract by `rate`.

    One threshold is searched by halving, the largest for which the proven constant of the whole of G is at most the
    rate. Weights that the constant does not depend on, as those of inputs, stay as they are.

    Args:
        G: an `EquilibriumLayer` of a module, or a module `G(state, *inputs)`.
        arguments: inputs of the layer, or the example state and the inputs, as for `certify`.
        rate: wanted, above 0 and below 1.
        norm: "l2" or "linf".
        method: "clip" takes a matrix to the nearest one (in the Frobenius norm) whose singular values are at most the
            threshold, and, for "linf", scales each row down to it; "scale" multiplies each weight by one number, as
            kernels of convolutions always are.
        evaluate: `evaluate(module)`, as the accuracy on data, reported before and after.

    Raises:
        InputError: an argument does not fit, or no threshold helps: the constant does not go to 0 with the weights.
        UnsupportedOperationError: G has an operation without a rule, by name.

    Theorem: T1 `picard`. Source: Higham, *Matrix Nearness Problems and Applications*, 1989, for the nearest matrix.
    """
    if not check_rate(rate) < 1:
        raise InputError(f"rate: a number between 0 and 1 is needed, got {rate!r}")
    if norm not in ("l2", "linf") or method not in METHODS:
        raise InputError(f"norm, method: got {norm!r}, {method!r}; choose l2 or linf, and clip or scale")
    module = copy.deepcopy(G)
    operator = operator_of(module)
    if not isinstance(operator, nn.Module):
        raise InputError(
            f"G: the weights of a module are repaired, got {type(operator).__name__}; make it an nn.Module"
        )
    state, inputs, dims = _example(module, arguments)

    def constant() -> float:
        """The product of norms: the constant that theorem `picard` rests on, and so the checker."""
        traced = trace(operator, state, *inputs, batch_dims=dims)
        require_one_map(traced.impure)
        problem = Problem(traced, state, inputs)
        check_independent(problem.written_out)
        return lipschitz_gain(problem.jacobian, as_norm(norm), dims).upper

    original = _weights_that_matter(operator, constant)
    threshold = _largest_threshold(original, constant, rate * (1.0 - 2.0**-30), norm, method)
    certificate = certify(module, *arguments, theorem="picard", norm=norm)
    changes = tuple(Change(n, _relative(p, w)) for n, (p, w) in original.items() if not torch.equal(p, w))
    return Repair(
        module,
        certificate,
        threshold,
        changes,
        _together(original),
        None if evaluate is None else float(evaluate(G)),
        None if evaluate is None else float(evaluate(module)),
    )


Weights = dict[str, tuple[nn.Parameter, Tensor]]


def _example(module: Any, arguments: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...], int]:
    if hasattr(module, "initial_state"):
        return module.initial_state(*arguments), arguments, module.batch_dims
    if not arguments:
        raise InputError("arguments: the example state and the inputs are needed, as for certify")
    return arguments[0], arguments[1:], 1


def _weights_that_matter(operator: nn.Module, constant: Callable[[], float]) -> Weights:
    """Matrices and kernels that the constant depends on, with a copy of each."""
    whole, found = constant(), {}
    for name, parameter in operator.named_parameters():
        if parameter.ndim < 2:
            continue
        kept = parameter.detach().clone()
        _write(parameter, torch.zeros_like(kept))
        if constant() != whole:
            found[name] = (parameter, kept)
        _write(parameter, kept)
    return found


def _largest_threshold(weights: Weights, constant: Callable[[], float], rate: float, norm: str, method: str) -> float:
    """The largest threshold found, written into the weights; infinity where they were right already."""
    if constant() <= rate:
        return float("inf")

    def apply(threshold: float) -> float:
        for parameter, kept in weights.values():
            _write(parameter, _limited(kept, threshold, norm, method))
        return constant()

    low, high = 0.0, max((_size(kept, norm) for _, kept in weights.values()), default=0.0)
    if not apply(0.0) <= rate:
        raise InputError("G: its constant stays above the rate when its weights vanish; nothing to repair in them")
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if apply(middle) <= rate else (low, middle)
    apply(low)
    return low


def _limited(weight: Tensor, threshold: float, norm: str, method: str) -> Tensor:
    if norm == "linf" and method == "clip":
        sums = weight.abs().flatten(1).sum(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
        rows: Tensor = weight * (threshold / sums.clamp_min(torch.finfo(sums.dtype).tiny)).clamp_max(1.0)
        return rows
    if method == "clip" and weight.ndim == 2:
        left, values, right = torch.linalg.svd(_wide(weight), full_matrices=False)
        if not bool((values > threshold).any()):
            return weight
        clipped: Tensor = ((left * values.clamp_max(threshold)) @ right).to(weight.dtype)
        return clipped
    return weight * min(1.0, threshold / max(_size(weight, norm), 1e-300))


def _size(weight: Tensor, norm: str) -> float:
    matrix = _wide(weight.detach()).flatten(1)
    return float(matrix.abs().sum(dim=1).max() if norm == "linf" else torch.linalg.svdvals(matrix)[0])


def _write(parameter: nn.Parameter, values: Tensor) -> None:
    with torch.no_grad():
        parameter.copy_(values)


def _relative(parameter: Tensor, kept: Tensor) -> float:
    return float(_wide(parameter.detach() - kept).norm() / _wide(kept).norm())


def _together(weights: Weights) -> float:
    moved = sum(float(_wide(p.detach() - kept).norm()) ** 2 for p, kept in weights.values())
    size = sum(float(_wide(kept).norm()) ** 2 for _, kept in weights.values())
    return (moved / size) ** 0.5 if size else 0.0


def _wide(weight: Tensor) -> Tensor:
    """The same numbers, real or complex, in double precision."""
    return weight.to(torch.complex128 if weight.is_complex() else torch.float64)
