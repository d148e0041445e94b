"""T1 and T2 where the norm of the matrix of slope products is below 1 and the product of norms is not."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from exact import rational, rational_matrix, seeded
from flint import fmpq_mat
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from campaign._exact import norm_at_most
from deqops.graph import trace
from deqops.testing import signed
from deqops.verify import Around, Ball, Box, Norm, Verdict, certify, check
from deqops.verify._gains import lipschitz_gain
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._norm import Order
from deqops.verify._problem import Problem
from deqops.verify._slope_norm import CERTIFIED, Limits, slope_norm
from deqops.verify._weights import fitted_norm

DOUBLE = torch.float64
ORDERS: tuple[Order, ...] = ("l1", "l2", "linf")
SLOPE = 0.5  # of the leaky ReLU, below 0


class Cancelling(nn.Module):
    """`0.9 z - 0.8 A^T s(A z) + x`, s with slopes in [0.5, 1]: the two terms cancel, their norms add."""

    def __init__(self, A: Tensor, s: Any = None) -> None:
        super().__init__()
        self.A = nn.Parameter(A)
        self.s = s or (lambda v: nn.functional.leaky_relu(v, SLOPE))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.9 * z - 0.8 * self.s(z @ self.A.T) @ self.A + x


def drawn(seed: int, n: int = 4, spread: float = 0.03) -> Tensor:
    return torch.eye(n, dtype=DOUBLE) + spread * torch.randn(n, n, generator=seeded(seed), dtype=DOUBLE)


def case(seed: int = 0, n: int = 4, batch: int = 2, s: Any = None) -> tuple[Cancelling, Tensor, Tensor]:
    y = torch.zeros(batch, n, dtype=DOUBLE)
    return Cancelling(drawn(seed, n), s), y, torch.randn(batch, n, generator=seeded(seed + 1), dtype=DOUBLE)


def products(A: Tensor) -> list[fmpq_mat]:
    """All slope products with slopes at their ends, exactly; the norm of any other is at most the largest of these."""
    n, inner = A.shape[1], rational_matrix(A)
    skip = rational(0.9) * rational_matrix(torch.eye(n, dtype=DOUBLE))
    found = []
    for ends in itertools.product((SLOPE, 1.0), repeat=len(A)):
        slopes = rational_matrix(torch.diag(torch.tensor(ends, dtype=DOUBLE)))
        found.append(skip - rational(0.8) * (inner.transpose() * slopes * inner))
    return found


def bounds(matrices: list[fmpq_mat], order: str, bound: float) -> bool:
    return all(norm_at_most(matrix, order, rational(bound)) for matrix in matrices)


def weighted(matrices: list[fmpq_mat], weight: Tensor) -> list[fmpq_mat]:
    D, inverse = (rational_matrix(torch.diag(w)) for w in (weight, torch.ones_like(weight)))
    for k, w in enumerate(weight.tolist()):
        inverse[k, k] = 1 / rational(w)
    return [D * matrix * inverse for matrix in matrices]


def composed(G: nn.Module, y: Tensor, x: Tensor, norm: Norm) -> float:
    return lipschitz_gain(Problem(trace(G, y, x), y, (x,)).jacobian, norm, 1).upper


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 4), order=st.sampled_from(ORDERS))
def test_slopes_norm_bounds_every_slope_product_exactly(seed: int, n: int, order: Order) -> None:
    G, y, x = case(seed, n)
    jacobian = Problem(trace(G, y, x), y, (x,)).jacobian
    found = slope_norm(jacobian, Norm(order), 1, CERTIFIED)
    every = products(G.A.detach())
    assert found is not None
    assert bounds(every, order, found)
    assert not bounds(every, order, 0.6 * found)
    assert found < composed(G, y, x, Norm(order))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.sampled_from(ORDERS), fitted=st.booleans())
def test_t1_picard_by_slopes_is_certified_checked_and_true(seed: int, order: Order, fitted: bool) -> None:
    G, y, x = case(seed, 3)
    certificate = certify(G, y, x, norm=f"weighted_{order}" if fitted else order, theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.norm is not None
    assert certificate.rate is not None
    assert composed(G, y, x, certificate.norm) > 1
    assert check(certificate, G, y, x).accepted
    every = products(G.A.detach())
    if certificate.norm.weights is not None:
        every = weighted(every, certificate.norm.weights[0])
    assert bounds(every, order, certificate.rate)
    assert not bounds(every, order, 0.6 * certificate.rate)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("damping", [1.0, 0.5])
def test_t2_local_picard_by_slopes_on_balls_is_certified_and_checked(order: Order, damping: float) -> None:
    G, y, x = case(1, s=torch.tanh)
    for _ in range(300):
        y = G(y, x)
    ball = Ball(y.detach(), 0.01, Norm(order))
    certificate = certify(G, y, x, region=ball, damping=damping, theorem="local_picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    J = torch.stack([torch.autograd.functional.jacobian(lambda z, k=k: G(z[None], x[k])[0], y[k]) for k in range(2)])
    steep = max(float(torch.linalg.matrix_norm(m, {"l1": 1, "l2": 2, "linf": float("inf")}[order])) for m in J)
    assert steep <= certificate.rate <= steep + 0.1
    assert check(certificate, G, y, x).accepted


def test_t2_local_picard_by_slopes_in_boxes_is_certified_and_checked() -> None:
    inner, y, x = case(1)

    class Clamped(nn.Module):
        """Into the box whatever the state is."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            result: Tensor = self.inner(z, x).clamp(-0.99, 0.99)
            return result

    G, box = Clamped(), Box(y - 1, y + 1)
    certificate = certify(G, y, x, norm="l2", region=box, theorem="local_picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "local_picard"
    assert composed(G, y, x, Norm("l2")) > 1
    assert check(certificate, G, y, x).accepted


def test_t2_local_picard_by_slopes_finds_its_ball() -> None:
    G, y, x = case(1, s=torch.tanh)
    certificate = certify(G, y, x, norm="linf", region=Around(), theorem="local_picard")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "local_picard"
    assert check(certificate, G, y, x).accepted


def test_t1_damped_iteration_by_slopes_has_its_rate() -> None:
    G, y, x = case(2)
    certificate = certify(G, y, x, damping=0.5)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, G, y, x).accepted


@pytest.mark.parametrize("region", ["global", "ball"])
@pytest.mark.parametrize("share", [1 - 2.0**-30, 0.9, 0.0])
def test_a_bound_below_the_slope_products_norm_is_rejected(region: str, share: float) -> None:
    G, y, x = case(3)
    for _ in range(300):
        y = G(y, x)
    where = Ball(y.detach(), 0.1) if region == "ball" else None
    certificate = certify(G, y, x, norm="linf", region=where, theorem="local_picard" if where else "picard")
    assert certificate.verdict is Verdict.CERTIFIED
    document: dict[str, Any] = copy.deepcopy(certificate.document())
    lowered = share * float.fromhex(document["evidence"]["bound"])
    document["evidence"]["bound"] = document["rate"] = lowered.hex()
    document["hypotheses"] = []
    found = check(signed(document), G, y, x)  # type: ignore[arg-type]
    assert not found.accepted
    assert "could only be bounded" in found.reasons[0], found.reasons


def test_a_certificate_by_slopes_is_not_one_of_other_weights() -> None:
    G, y, x = case(3)
    certificate = certify(G, y, x, norm="l2", theorem="picard")
    other = copy.deepcopy(G)
    with torch.no_grad():
        other.A[0, 0] += 2.0**-20
    assert not check(certificate, other, y, x).accepted


def test_expanding_by_slopes_is_not_certified() -> None:
    G, y, x = case(4)
    with torch.no_grad():
        G.A.mul_(1.7)
    assert certify(G, y, x, norm="l2", theorem="picard").verdict is not Verdict.CERTIFIED


def test_slope_matrices_are_not_written_out_beyond_the_limits() -> None:
    G, y, x = case(0)
    jacobian = Problem(trace(G, y, x), y, (x,)).jacobian
    for limits in (Limits(3, 2**20, 2.0**31), Limits(4, 31, 2.0**31), Limits(4, 32, 2.0**5)):
        assert slope_norm(jacobian, Norm("l2"), 1, limits) is None
    assert slope_norm(jacobian, Norm("l2"), 1, Limits(4, 64, 2.0**31)) is not None


@pytest.mark.parametrize("order", ORDERS)
def test_fitted_weights_are_about_the_best(order: Order) -> None:
    """With the right weights the norm of a nonnegative matrix is its spectral radius, here a root of 0.5."""
    N = torch.tensor([[0.0, 50.0], [0.01, 0.0]], dtype=DOUBLE)
    (weight,) = fitted_norm(N, order, [(2,)]).weights or ()
    scaled = weight[:, None] * N / weight
    assert float(torch.linalg.matrix_norm(scaled, {"l1": 1, "l2": 2, "linf": float("inf")}[order])) < 0.5**0.5 + 1e-3


def test_slope_matrices_hold_the_derivative() -> None:
    G, y, x = case(5)
    found = interval_jacobian(Problem(trace(G, y, x), y, (x,)).jacobian, 1)
    every = torch.autograd.functional.jacobian(lambda z: G(z[None], x[0])[0], torch.randn(4, dtype=DOUBLE))
    assert bool(((every - found.mid[0]).abs() <= found.rad[0] + 1e-12).all())
