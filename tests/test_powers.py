"""T1, powers: a power of G contracts, where G expands in every diagonally weighted norm."""

from __future__ import annotations

import copy
import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from exact import seeded
from flint import fmpq_mat
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from campaign._exact import Rational, identity, is_stable, norm_at_most, rational, rational_matrix
from deqops.testing import assert_accepted
from deqops.verify import Certificate, Converges, Verdict, certify, check


class Affine(nn.Module):
    """`W z + x`, with a small bend where `bend` is not 0."""

    def __init__(self, weight: Tensor, bend: float = 0.0) -> None:
        super().__init__()
        self.W, self.bend = nn.Parameter(weight), bend

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        image = z @ self.W.T + x
        return image + self.bend * torch.tanh(z) if self.bend else image


def sheared(size: int, radius: float, shear: float, seed: int) -> Tensor:
    """Eigenvalues `radius`, far from normal in every diagonal scaling."""
    basis = torch.linalg.qr(torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)).Q
    inner = radius * torch.eye(size, dtype=torch.float64)
    inner += torch.diag(torch.full((size - 1,), shear, dtype=torch.float64), 1)
    return basis @ inner @ basis.T


def proven(layer: nn.Module, z: Tensor, damping: float | None = None) -> Certificate:
    return certify(layer, z, z, theorem="powers", damping=damping)


def exact_power(M: Any, doublings: int) -> tuple[Any, Any]:
    """`M^m` and `I + M + ... + M^(m-1)`, m = 2^doublings."""
    total = identity(M.nrows())
    for _ in range(doublings):
        total, M = total + M * total, M * M
    return M, total


def damped(M: Any, b: Rational) -> Any:
    return identity(M.nrows()) * (1 - b) + M * b


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 4),
    radius=st.floats(-0.99, 0.99),
    shear=st.floats(0.0, 4.0),
    damping=st.sampled_from([1.0, 0.5, 1.25]),
)
def test_t1_powers_numbers_contain_the_truth(seed: int, size: int, radius: float, shear: float, damping: float) -> None:
    weight = sheared(size, radius, shear, seed)
    z = torch.zeros(1, size, dtype=torch.float64)
    certificate = proven(Affine(weight), z, damping)
    assume(certificate.verdict is Verdict.CERTIFIED)
    assert certificate.evidence is not None
    assert certificate.norm is not None
    assert certificate.factor is not None
    M = damped(rational_matrix(weight), rational(damping))
    assert is_stable(M)
    power, total = exact_power(M, certificate.evidence.counts["doublings"])
    q = rational(certificate.evidence.numbers["contraction"])
    assert norm_at_most(power, certificate.norm.order, q)
    assert norm_at_most(total * rational(damping), certificate.norm.order, rational(certificate.factor) * (1 - q))


def test_t1_powers_is_not_vacuous() -> None:
    """Affine maps with a spectral radius of 0.8 and norms above 1.5: certified, and the error bound is finite."""
    for seed in range(6):
        layer = Affine(sheared(4, 0.8, 1.0, seed))
        x = torch.randn(2, 4, generator=seeded(seed), dtype=torch.float64)
        certificate = certify(layer, torch.zeros_like(x), x, theorem="powers")
        assert certificate.verdict is Verdict.CERTIFIED
        assert isinstance(certificate.claim, Converges)
        report = check(certificate, layer, torch.zeros_like(x), x)
        assert report.accepted, report.reasons
        exact = torch.linalg.solve(torch.eye(4, dtype=torch.float64) - layer.W.detach(), x.T).T
        y = exact + 1e-3
        bound = certificate.error_bound(layer, y, x).value
        assert certificate.norm is not None
        assert certificate.norm.order == "l2"
        assert bool(((y - exact).norm(dim=1) <= bound).all())
        assert bool((bound < 1e6).all())


def test_t1_powers_never_q_m_with_a_single_residual() -> None:
    """The factor holds at the worst point, where `1 / (1 - q_m)` does not."""
    weight = torch.tensor([[0.5, 64.0], [0.0, 0.5]], dtype=torch.float64)
    z = torch.zeros(1, 2, dtype=torch.float64)
    certificate = proven(Affine(weight), z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.evidence is not None
    assert certificate.factor is not None
    W = rational_matrix(weight)
    inverse = (identity(2) - W).inv()  # y - y* = (I - W)^-1 (y - G(y))
    assert norm_at_most(inverse, "l2", rational(certificate.factor))
    assert not norm_at_most(inverse, "l2", rational(1.0 / (1.0 - certificate.evidence.numbers["contraction"])))


def test_t1_powers_slopes_may_differ_from_step_to_step() -> None:
    """A bent map: certified for a small bend, never where a product of its slopes grows."""
    weight = sheared(3, 0.5, 2.0, 1)
    z = torch.zeros(1, 3, dtype=torch.float64)
    certificate = proven(Affine(weight, 1e-3), z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, Affine(weight, 1e-3), z, z)
    assert proven(Affine(weight, 1.0), z).verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("radius", [1.0, -1.0, 1.0 + 2.0**-40])
def test_t1_powers_ties_are_not_certified(radius: float) -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    layer = Affine(torch.tensor([[radius, 1.0], [0.0, 0.5]], dtype=torch.float64))
    assert proven(layer, z).verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("what", ["contraction", "factor", "doublings", "rate", "damping"])
def test_numbers_that_do_not_follow_are_rejected(what: str) -> None:
    from deqops.verify.checker._document import _digest

    layer, z = Affine(sheared(3, 0.9, 2.0, 4)), torch.zeros(1, 3, dtype=torch.float64)
    document = proven(layer, z).document()
    assert_accepted(document, layer, z, z)
    spoilt = copy.deepcopy(document)
    if what in ("contraction", "factor"):
        spoilt["evidence"][what] = (float.fromhex(document["evidence"][what]) * 0.9).hex()
    elif what == "doublings":
        spoilt["evidence"][what] -= 1
    elif what == "rate":
        spoilt["rate"] = (0.5).hex()
    else:
        spoilt["claim"]["iteration"]["damping"] = (2.5).hex()
    spoilt["digest"] = _digest(spoilt)
    assert not check(spoilt, layer, z, z).accepted
    assert math.isfinite(float.fromhex(document["evidence"]["factor"]))
    assert Fraction(float.fromhex(document["evidence"]["contraction"])) < 1
    assert isinstance(exact_power(identity(2), 1)[0], fmpq_mat)
