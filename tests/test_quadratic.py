"""T1 in a quadratic norm: affine maps of spectral radius below 1, whatever their norms, and nearly affine ones."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from exact import seeded
from hypothesis import assume, given
from hypothesis import strategies as st
from test_powers import Affine, damped, sheared
from torch import Tensor, nn

from campaign._exact import Rational, identity, is_semidefinite, is_stable, norm_at_most, rational, rational_matrix
from deqops import InputError
from deqops.graph import trace
from deqops.testing import assert_accepted
from deqops.verify import Certificate, Converges, Norm, Verdict, certify, check
from deqops.verify._problem import Problem
from deqops.verify._theorems._quadratic import quadratic


def proven(layer: nn.Module, z: Tensor, damping: float | None = None) -> Certificate:
    return certify(layer, z, z, theorem="quadratic", damping=damping)


def shrinks(M: Any, root: Tensor, q: Rational) -> bool:
    """`M^T P M <= q^2 P` in rationals, P = R^T R."""
    R = rational_matrix(root)
    P = R.transpose() * R
    gap = P * q * q - M.transpose() * P * M
    return is_semidefinite(gap.numer_denom()[0]) and is_semidefinite(P.numer_denom()[0], definite=True)


def gap_of(weight: Tensor, damping: float) -> Tensor:
    """`y_1 - y_0 = -b (I - W) y_0`, in floats."""
    return damping * (torch.eye(len(weight), dtype=torch.float64) - weight)


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 5),
    radius=st.floats(-0.99, 0.99),
    shear=st.floats(0.0, 4.0),
    damping=st.sampled_from([1.0, 0.5, 1.25]),
)
def test_t1_quadratic_numbers_contain_the_truth(
    seed: int, size: int, radius: float, shear: float, damping: float
) -> None:
    weight = sheared(size, radius, shear, seed)
    layer, z = Affine(weight), torch.zeros(1, size, dtype=torch.float64)
    assume(quadratic(Problem(trace(layer, z, z), z, (z,)), damping).holds)
    certificate = proven(layer, z, damping)
    assert certificate.verdict is Verdict.CERTIFIED
    evidence = certificate.evidence
    assert evidence is not None
    assert certificate.factor is not None
    b = rational(damping)
    M = damped(rational_matrix(weight), b)
    assert is_stable(M)
    assert shrinks(M, evidence.tensors["form"][0][0], rational(evidence.numbers["contraction"]))
    gap = identity(size) - M  # y - y* = b (I - M)^-1 (y - G(y))
    assert norm_at_most(gap.inv() * b, "l2", rational(certificate.factor))
    start, step = torch.ones(size, dtype=torch.float64), rational_matrix(torch.ones(size, 1, dtype=torch.float64))
    n = certificate.iterations(1e-3, float(torch.linalg.matrix_norm(gap_of(weight, damping), 2) * start.norm()) * 1.01)
    power = identity(size)
    for _ in range(n if n <= 400 else 0):
        power = power * M
    assert n > 400 or norm_at_most(power * step, "l2", rational(1e-3))  # from y_0 = (1, .., 1) to y* = 0


def test_t1_quadratic_auto_takes_far_from_normal_affine_maps() -> None:
    for seed in range(4):
        layer = Affine(sheared(5, 0.9, 1.0, seed))
        x = torch.randn(2, 5, generator=seeded(seed), dtype=torch.float64)
        certificate = certify(layer, torch.zeros_like(x), x)
        assert certificate.verdict is Verdict.CERTIFIED
        assert certificate.theorem == "quadratic"
        assert isinstance(certificate.claim, Converges)
        assert certificate.inputs[0].free
        report = check(certificate, layer, torch.zeros_like(x), x)
        assert report.accepted, report.reasons


def test_t1_quadratic_one_norm_must_do_for_every_slope() -> None:
    """T1's trap: `||P W P^-1|| < 1` for a P that is not diagonal says nothing of relu(W z + c)."""
    weight = torch.tensor([[1.5, -2.0], [1.0, -1.2]], dtype=torch.float64)
    assert is_stable(rational_matrix(weight))

    class Trap(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.relu(z @ weight.T + x)

    z = torch.zeros(1, 2, dtype=torch.float64)
    assert proven(Affine(weight), z).verdict is Verdict.CERTIFIED
    assert proven(Trap(), z).verdict is not Verdict.CERTIFIED
    assert proven(Affine(sheared(3, 0.5, 2.0, 1), 1e-3), torch.zeros(1, 3).double()).verdict is Verdict.CERTIFIED
    assert proven(Affine(sheared(3, 0.5, 2.0, 1), 1.0), torch.zeros(1, 3).double()).verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("radius", [1.0, -1.0, 1.0 + 2.0**-40])
def test_t1_quadratic_ties_are_not_certified(radius: float) -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    layer = Affine(torch.tensor([[radius, 1.0], [0.0, 0.5]], dtype=torch.float64))
    assert proven(layer, z).verdict is not Verdict.CERTIFIED


def test_weights_are_refused_by_name() -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    layer = Affine(0.5 * torch.eye(2, dtype=torch.float64))
    for norm in ("weighted_l2", Norm("l2", (torch.ones(2, dtype=torch.float64),))):
        with pytest.raises(InputError, match="its own quadratic norm"):
            certify(layer, z, z, theorem="quadratic", norm=norm)


@pytest.mark.parametrize("what", ["contraction", "size", "inverse_size", "factor", "rate", "damping"])
def test_numbers_that_do_not_follow_are_rejected(what: str) -> None:
    from deqops.verify.checker._document import _digest

    layer, z = Affine(sheared(3, 0.9, 2.0, 4)), torch.zeros(1, 3, dtype=torch.float64)
    document = proven(layer, z).document()
    assert_accepted(document, layer, z, z)
    spoilt = copy.deepcopy(document)
    if what in spoilt["evidence"]:
        spoilt["evidence"][what] = (float.fromhex(document["evidence"][what]) * (1 - 1e-3)).hex()
    elif what == "rate":
        spoilt["rate"] = (0.5).hex()
    else:
        spoilt["claim"]["iteration"]["damping"] = (2.5).hex()
    spoilt["digest"] = _digest(spoilt)
    assert not check(spoilt, layer, z, z).accepted


def test_an_unstable_map_far_from_normal_gives_no_warning() -> None:
    """A triple eigenvalue of modulus 1.19: scipy's solver warned of the search for a refutation's witness."""
    weight = sheared(3, -0.75, 1.0, 0)
    assert proven(Affine(weight), torch.zeros(1, 3, dtype=torch.float64), 1.25).verdict is not Verdict.CERTIFIED
