"""T5 (a) `one_sided`: a one-sided Lipschitz constant below 1, where damped iteration converges though G expands.

The truth is exact: for slopes in [a, b] the largest eigenvalue of sym(S W) and the largest norm are met at a corner.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from typing import Any

import pytest
import torch
from exact import seeded
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from campaign._exact import diagonal, identity, is_semidefinite, rational, rational_matrix
from deqops import InputError, ModelFileError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted, signed
from deqops.verify import Certificate, Converges, Norm, Verdict, certify, check
from deqops.verify._problem import Problem
from deqops.verify._theorems._one_sided import one_sided


class Stiff(nn.Module):
    """`A z + 0.25 tanh(B z) + x`: several terms, so that slopes are taken entry by entry."""

    def __init__(self, A: Tensor, B: Tensor) -> None:
        super().__init__()
        self.A, self.B = nn.Parameter(A), nn.Parameter(B)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return z @ self.A.T + 0.25 * torch.tanh(z @ self.B.T) + x


def skewed(size: int, pull: float, twist: float, seed: int) -> Tensor:
    """`-pull I + twist K + noise`, K skew-symmetric: norms far above 1, symmetric part negative."""
    noise = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    K = (noise - noise.T) / 2
    return -pull * torch.eye(size, dtype=torch.float64) + twist * K + 0.1 * noise


def proven(layer: nn.Module, z: Tensor, damping: float | None = None, norm: str | Norm = "auto") -> Certificate:
    return certify(layer, z, z, theorem="one_sided", damping=damping, norm=norm)


def corners(weight: Tensor, weights: Tensor | None, slopes: tuple[float, float]) -> list[Any]:
    """`D S W D^-1` in rationals at every corner of the slopes."""
    W = rational_matrix(weight)
    if weights is not None:
        scale = [rational(w) for w in weights.reshape(-1).tolist()]
        W = diagonal(scale) * W * diagonal([1 / w for w in scale])
    ends = [rational(s) for s in slopes]
    return [diagonal(list(s)) * W for s in itertools.product(ends, repeat=W.nrows())]


def semidefinite(matrix: Any) -> bool:
    return is_semidefinite(matrix.numer_denom()[0])


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 4),
    pull=st.floats(-0.5, 6.0),
    twist=st.floats(0.0, 2.0),
    leak=st.sampled_from([0.0, 0.25, 1.0]),
    norm=st.sampled_from(["l2", "weighted_l2"]),
)
def test_t5_one_sided_numbers_contain_the_truth(
    seed: int, size: int, pull: float, twist: float, leak: float, norm: str
) -> None:
    weight = skewed(size, pull, twist, seed)
    layer = Layer(weight, lambda v: nn.functional.leaky_relu(v, leak))
    certificate = proven(layer, torch.zeros(1, size, dtype=torch.float64), norm=norm)
    assume(certificate.verdict is Verdict.CERTIFIED)
    assert isinstance(certificate.claim, Converges)
    assert certificate.norm is not None
    assert certificate.evidence is not None
    assert certificate.rate is not None
    weights = None if certificate.norm.weights is None else certificate.norm.weights[0]
    mu, rate, b = (
        rational(v) for v in (certificate.evidence.numbers["mu"], certificate.rate, certificate.claim.damping)
    )
    eye = identity(size)
    for M in corners(weight, weights, (leak, 1.0)):
        assert semidefinite(eye * mu - (M + M.transpose()) / 2)
        N = eye * (1 - b) + M * b
        assert semidefinite(eye * rate * rate - N.transpose() * N)


def test_t5_one_sided_is_not_vacuous() -> None:
    """Layers of norm 2 to 10 that pull inwards are certified, and the constant m is nearly the truth."""
    found = 0
    for seed in range(8):
        weight = skewed(4, 3.0 + seed / 2, 0.5, seed)
        z = torch.zeros(1, 4, dtype=torch.float64)
        certificate = proven(Layer(weight, "relu"), z)
        if certificate.verdict is not Verdict.CERTIFIED:
            continue
        found += 1
        assert certificate.evidence is not None
        tops = [torch.linalg.eigvalsh((M + M.T) / 2)[-1] for M in _float_corners(weight)]
        assert certificate.evidence.numbers["mu"] <= max(0.0, float(max(tops))) + 0.3
        report = check(certificate, Layer(weight, "relu"), z, z)
        assert report.accepted, report.reasons
    assert found >= 7


def _float_corners(weight: Tensor) -> list[Tensor]:
    return [
        torch.diag(torch.tensor(s, dtype=torch.float64)) @ weight
        for s in itertools.product([0.0, 1.0], repeat=len(weight))
    ]


def test_t5_one_sided_auto_finds_a_damping_for_a_stiff_operator() -> None:
    A = skewed(6, 2.0, 0.5, 1)
    B = torch.randn(6, 6, generator=seeded(2), dtype=torch.float64) * 0.3
    layer, z = Stiff(A, B), torch.randn(2, 6, generator=seeded(3), dtype=torch.float64)
    certificate = certify(layer, z, z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "one_sided"
    assert isinstance(certificate.claim, Converges)
    assert 0 < certificate.claim.damping < 1
    assert certificate.rate is not None
    report = check(certificate, layer, z, z)
    assert report.accepted, report.reasons
    b, y, steps = certificate.claim.damping, 100 * z, []
    with torch.no_grad():
        for _ in range(200):
            after = (1 - b) * y + b * layer(y, z)
            steps.append((after - y).norm(dim=1))
            y = after
    both = itertools.pairwise(steps)
    assert all(bool((n <= certificate.rate * o * (1 + 1e-9) + 1e-12).all()) for o, n in both)
    assert float(certificate.error_bound(layer, y, z).value.max()) < 1e-9


def test_t5_one_sided_a_damping_above_one_is_not_certified() -> None:
    """`relu(-3 y)` has m = 0 and L = 3: any b below 1/5 will do, none above 1 is claimed."""
    layer, z = Layer(torch.tensor([[-3.0]], dtype=torch.float64), "relu"), torch.zeros(1, 1, dtype=torch.float64)
    assert proven(layer, z, damping=0.15).verdict is Verdict.CERTIFIED
    for damping in (1.5, -0.5, 0.9):
        assert proven(layer, z, damping=damping).verdict is not Verdict.CERTIFIED


def test_t5_one_sided_softplus_on_the_line_has_no_constant_below_one() -> None:
    layer = Layer(torch.eye(1, dtype=torch.float64), "softplus")
    z = torch.zeros(1, 1, dtype=torch.float64)
    problem = Problem(trace(layer, z, z), z, (z,))
    for damping in (None, 0.01, 0.5):
        assert not one_sided(problem, Norm("l2"), damping).holds


def test_t5_one_sided_weights_that_vary_along_other_dimensions() -> None:
    """A state of several rows with weights of their own falls back to the matrix of all unknowns."""
    layer, z = Layer(skewed(2, 4.0, 0.5, 3), "relu"), torch.zeros(1, 3, 2, dtype=torch.float64)
    weights = torch.tensor([[1.0, 1.0], [2.0, 1.5], [1.0, 1.0]], dtype=torch.float64)
    certificate = proven(layer, z, norm=Norm("l2", (weights,)))
    evidence = certificate.evidence
    if certificate.verdict is Verdict.CERTIFIED:
        assert evidence is not None
        assert evidence.numbers["multiplier"] == 0
        assert_accepted(certificate, layer, z, z)
    stiff = Stiff(-2.0 * torch.eye(2, dtype=torch.float64), 0.1 * torch.eye(2, dtype=torch.float64))
    certificate = proven(stiff, z, norm=Norm("l2", (weights,)))
    assert certificate.verdict is Verdict.CERTIFIED
    report = check(certificate, stiff, z, z)
    assert report.accepted, report.reasons


def test_norms_other_than_l2_are_refused_by_name() -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    with pytest.raises(InputError, match="is about l2"):
        proven(Layer(torch.eye(2, dtype=torch.float64), "relu"), z, norm="linf")


@pytest.mark.parametrize("name", ["mu", "bound", "factor", "multiplier", "rate", "damping"])
def test_numbers_that_do_not_follow_are_rejected(name: str) -> None:
    from deqops.verify.checker._document import _digest

    layer, z = Layer(skewed(3, 3.0, 0.5, 1), "relu"), torch.zeros(1, 3, dtype=torch.float64)
    document = proven(layer, z).document()
    assert_accepted(document, layer, z, z)
    spoilt = copy.deepcopy(document)
    if name == "rate":
        spoilt["rate"] = (float.fromhex(document["rate"]) * (1 - 1e-6)).hex()
    elif name == "damping":
        spoilt["claim"]["iteration"]["damping"] = (1.25).hex()
    else:
        value = float.fromhex(document["evidence"][name])
        spoilt["evidence"][name] = (value - 1e-3 * max(1.0, abs(value)) if name != "multiplier" else -value).hex()
    spoilt["digest"] = _digest(spoilt)
    assert not check(spoilt, layer, z, z).accepted
    assert math.isfinite(float.fromhex(document["evidence"]["factor"]))


def test_a_claim_about_the_equilibrium_alone_has_no_rate() -> None:
    """`-3 y + x` has one equilibrium, from which Picard's iteration runs away: no rate goes with that claim."""
    layer, z = Layer(torch.tensor([[-3.0]], dtype=torch.float64), "relu"), torch.zeros(1, 1, dtype=torch.float64)
    document = proven(layer, z).document()
    document["claim"], document["hypotheses"] = {"kind": "unique_equilibrium", "region": document["region"]}, []
    document["rate"] = (0.0).hex()
    report = check(signed(document), layer, z, z)
    assert not report.accepted
    assert "rate" in report.reasons[0]
    with pytest.raises(ModelFileError, match="rate"):
        Certificate.from_document(signed(document))
    document["rate"] = None
    assert_accepted(signed(document), layer, z, z)
    plain = Certificate.from_document(signed(document))
    assert float(plain.error_bound(layer, z, z).value) >= 0
    for certificate in (plain, dataclasses.replace(plain, rate=0.0)):
        with pytest.raises(InputError, match="rate"):
            certificate.iterations(1e-6, 1.0)
