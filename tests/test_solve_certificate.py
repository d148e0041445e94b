"""Stopping on a proven error: the core's side of the certificate protocol."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import EquilibriumLayer, InputError, Picard, Result, Tolerance, solve

RATE = 0.99
EXACT = 1 / (1 - RATE)


def G(z: Tensor) -> Tensor:
    return RATE * z + 1


@dataclass
class Distances:
    l2: Tensor


@dataclass
class Banach:
    """T1's residual form `||G(y) - y|| / (1 - q)` in floats: enough to test who asks for it, and when."""

    factor: float = 1.0
    calls: list[Tensor] = field(default_factory=list)

    def error_bound(self, G: Any, y: Tensor, *inputs: Any) -> Distances:
        self.calls.append(y)
        assert not y.requires_grad
        residual = torch.linalg.vector_norm((G(y, *inputs) - y).double(), dim=1)
        return Distances(self.factor * residual / (1 - RATE))


def test_error_bound_is_filled_in_for_the_returned_value() -> None:
    certificate = Banach()
    start = torch.zeros(2, 3, dtype=torch.float64)
    solution = solve(G, start, solver=Picard(), tolerance=Tolerance(certificate=certificate), max_evaluations=3000)
    assert len(certificate.calls) == 1
    assert torch.equal(certificate.calls[0], solution.value)
    error = torch.linalg.vector_norm(solution.value - EXACT, dim=1)
    assert (error <= solution.error_bound.l2 * (1 + 1e-9)).all()
    # the residual alone says nothing like that
    assert (error > 50 * solution.residual).all()


def test_without_certificate_nothing_is_claimed() -> None:
    assert solve(torch.cos, torch.zeros(1, 1)).error_bound is None


def test_a_proven_error_stops_later_and_is_asked_for_sparingly() -> None:
    start = torch.zeros(2, 3, dtype=torch.float64)
    certificate = Banach()
    tolerance = Tolerance(relative=1e-3, error=1e-4, certificate=certificate)
    solution = solve(G, start, solver=Picard(), tolerance=tolerance, max_evaluations=3000)
    loose = solve(G, start, solver=Picard(), tolerance=Tolerance(relative=1e-3), max_evaluations=3000)
    assert solution.converged
    assert (solution.error_bound.l2 <= 1e-4).all()
    assert (torch.linalg.vector_norm(solution.value - EXACT, dim=1) <= 1e-4).all()
    assert (torch.linalg.vector_norm(loose.value - EXACT, dim=1) > 1e-4).all()
    assert len(certificate.calls) <= 5
    assert int(solution.evaluations.max()) > 1000


def back_and_forth(z: Tensor) -> Tensor:
    """Next to its equilibrium 1 this map goes from one neighbour to the other, as rounding may do."""
    one = torch.ones_like(z)
    near = (z - one).abs() < 1e-15
    return torch.where(near, torch.where(z > one, one, torch.nextafter(one, 2 * one)), one + 0.1 * (z - one))


def test_an_error_below_the_floating_point_floor_stagnates() -> None:
    tolerance = Tolerance(error=1e-30, certificate=Banach())
    rough = Tolerance(relative=1e-3, error=1e-30, certificate=Banach())
    for given in (tolerance, rough):
        solution = solve(
            back_and_forth,
            torch.zeros(1, 9, dtype=torch.float64),
            solver=Picard(),
            tolerance=given,
            throw=False,
        )
        assert solution.results == [Result.STAGNATED]
        assert int(solution.evaluations) < 100


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_bound_that_proves_nothing_never_converges(factor: float) -> None:
    tolerance = Tolerance(relative=1e-3, error=1.0, certificate=Banach(factor))
    solution = solve(lambda z: 0.5 * z + 1, torch.zeros(1, 2), solver=Picard(), tolerance=tolerance, throw=False)
    assert solution.results == [Result.STAGNATED]


def test_a_last_chance_proof_at_the_end_of_the_budget() -> None:
    """The residual has not shrunk by the missing factor yet, but the budget ends and the bound holds by then."""
    start = torch.zeros(1, 1, dtype=torch.float64)
    for most in range(2, 12):
        tolerance = Tolerance(relative=0.5, error=30.0, certificate=Banach())
        solution = solve(G, start, solver=Picard(), tolerance=tolerance, max_evaluations=most * 20, throw=False)
        assert solution.converged == bool(solution.error_bound.l2 <= 30.0)


def test_a_certificate_of_the_wrong_shape_is_refused() -> None:
    class Wrong:
        def error_bound(self, G: Any, y: Any, *inputs: Any) -> Distances:
            return Distances(torch.zeros(7))

    with pytest.raises(InputError, match="certificate: its error bound has"):
        solve(torch.cos, torch.zeros(2, 1), tolerance=Tolerance(certificate=Wrong()))


def test_a_layer_passes_its_certificate_on() -> None:
    layer = EquilibriumLayer(
        lambda z, x: 0.5 * z + x, tolerance=Tolerance(certificate=Banach()), initial=torch.zeros_like
    )
    solution = layer.solve(torch.ones(2, 3, dtype=torch.float64, requires_grad=True))
    assert solution.error_bound.l2.shape == (2,)
    assert solution.value.requires_grad
