"""T13 `componentwise`: entrywise contraction on a box, and bounds for each component, against exact arithmetic."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import rational, rational_matrix, relu_equilibria, seeded
from flint import fmpq, fmpq_mat
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import InputError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted
from deqops.verify import (
    THEOREMS,
    Ball,
    Certificate,
    Converges,
    Norm,
    UniqueEquilibrium,
    Verdict,
    certify,
    check,
    componentwise_error_bound,
)
from deqops.verify._componentwise import growth, proposed_vector
from deqops.verify._problem import Problem
from deqops.verify._request import Request

Vector = list[Any]


def matrix(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def proven(layer: Any, z: Tensor, x: Tensor, **options: Any) -> Certificate:
    return certify(layer, z, x, theorem="componentwise", **options)


def holds(layer: nn.Module, z: Tensor, region: Ball | None = None) -> bool:
    """Whether the theorem's hypotheses are verified; nothing is refuted where they are not."""
    problem = Problem(trace(layer, z, z), z, (z,))
    attempt = THEOREMS["componentwise"].attempt(problem, Request("auto", region, "componentwise", 1.0))
    return next(iter(attempt)).holds


def column(values: Tensor) -> fmpq_mat:
    return fmpq_mat(values.numel(), 1, [rational(v) for v in values.reshape(-1).tolist()])


def identity(size: int) -> fmpq_mat:
    return fmpq_mat(size, size, [int(i == j) for i in range(size) for j in range(size)])


def affine_truth(W: Tensor, x: Tensor) -> fmpq_mat:
    return (identity(len(W)) - rational_matrix(W)).solve(column(x))


def entries(values: fmpq_mat) -> Vector:
    return [values[i, 0] for i in range(values.nrows())]


def errors_within(y: Tensor, truth: Vector, bound: Tensor) -> bool:
    pairs = zip(y.reshape(-1).tolist(), truth, bound.reshape(-1).tolist(), strict=True)
    return all(abs(rational(v) - t) <= rational(e) for v, t, e in pairs)


# -------------------------------------------------------------------------------------------------- everywhere


@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), radius=st.floats(0.1, 0.9999), near=st.integers(0, 45))
def test_t13_componentwise_the_exact_equilibrium_is_within_the_bound_of_each_component(
    seed: int, size: int, radius: float, near: int
) -> None:
    W = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    W *= radius / float(torch.linalg.eigvals(W.abs()).abs().max())
    x = torch.randn(1, size, generator=seeded(seed + 1), dtype=torch.float64)
    z = torch.zeros(1, size, dtype=torch.float64)
    layer = trace(Layer(W, "identity"), z, x)
    certificate = proven(layer, z, x)
    assert certificate.verdict is Verdict.CERTIFIED
    truth = affine_truth(W, x)
    noise = torch.randn(1, size, generator=seeded(seed + 2), dtype=torch.float64)
    y = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - W, x[0])[None] + 2.0**-near * noise
    (bound,) = componentwise_error_bound(certificate, layer, y, x)
    assert errors_within(y, entries(truth), bound)
    assert bool((bound <= certificate.error_bound(layer, y, x).linf * (1 + 1e-9)).all())


@given(seed=st.integers(0, 10**6), size=st.integers(1, 5), radius=st.floats(0.1, 0.999))
def test_t13_componentwise_the_bound_is_the_least_for_nonnegative_matrices(seed: int, size: int, radius: float) -> None:
    """There `(I - N)^-1 |G(y) - y|` is attained where the residual has one sign; the bound is within 0.1 % of it."""
    W = torch.rand(size, size, generator=seeded(seed), dtype=torch.float64)
    W *= radius / float(torch.linalg.eigvals(W).abs().max())
    x = torch.randn(1, size, generator=seeded(seed + 1), dtype=torch.float64)
    y = torch.randn(1, size, generator=seeded(seed + 2), dtype=torch.float64)
    layer = trace(Layer(W, "identity"), y, x)
    certificate = proven(layer, y, x)
    assert certificate.verdict is Verdict.CERTIFIED
    (bound,) = componentwise_error_bound(certificate, layer, y, x)
    M, v = rational_matrix(W), column(y)
    residual = M * v + column(x) - v
    least = (identity(size) - M).solve(fmpq_mat(size, 1, [abs(r) for r in entries(residual)]))
    for e, exact in zip(bound[0].tolist(), entries(least), strict=True):
        assert exact <= rational(e) <= exact * fmpq(1001, 1000)


@pytest.mark.parametrize("angle", [0.5, 0.75, 1.0, 2.0])
@pytest.mark.parametrize("scale", [0.8, 0.95])
def test_t13_componentwise_wants_the_radius_of_the_moduli(angle: float, scale: float) -> None:
    """A turn by an angle: rho(A) < 1 < rho(|A|), and N >= |A| is what the theorem is about."""
    A = scale * matrix([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    exact, size = rational_matrix(A), fmpq(99, 100)
    assert exact.det() < size**2  # both eigenvalues are complex, their product the determinant
    assert (exact[0, 0] + exact[1, 1]) ** 2 < 4 * exact.det()
    assert abs(exact[0, 0]) + abs(exact[0, 1]) > 1  # both rows alike: (1, 1) is Perron's vector of |A|
    z = torch.zeros(1, 2, dtype=torch.float64)
    assert not holds(Layer(A, "identity"), z)
    assert not holds(Layer(A, "identity"), z, Ball(z, 1.0))


@pytest.mark.parametrize("last", [1.0, 1 + 2.0**-52])
def test_t13_componentwise_a_spectral_radius_of_one_is_not_below_one(last: float) -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    for rows in ([[0.5, 0.0], [0.0, last]], [[0.0, 1.0], [last, 0.0]]):
        assert not holds(Layer(matrix(rows), "identity"), z)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_t13_componentwise_finds_a_vector_for_skewed_matrices(name: str) -> None:
    """Weights over 11 orders of magnitude: the search for Perron's vector gives up, the resolvent does not."""
    W = matrix([[0.999, 1000.0, 10.0], [0.0, 0.9, 1e4], [0.0, 0.0, 0.5]])
    layer, z = Layer(W, name), torch.zeros(2, 3, dtype=torch.float64)
    assert certify(layer, z, z, theorem="picard", norm="weighted_linf").verdict is not Verdict.CERTIFIED
    certificate = proven(layer, z, z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, layer, z, z)


@given(seed=st.integers(0, 10**6), damping=st.sampled_from([1.0, 0.5, 0.75]), name=st.sampled_from(["auto", "linf"]))
def test_t13_componentwise_the_promised_number_of_steps_is_enough(seed: int, damping: float, name: str) -> None:
    W = torch.randn(3, 3, generator=seeded(seed), dtype=torch.float64) * torch.tensor([1.0, 4.0, 16.0])
    W *= 0.7 / float(torch.linalg.eigvals(W.abs()).abs().max())
    x = torch.randn(1, 3, generator=seeded(seed + 1), dtype=torch.float64)
    z = torch.zeros(1, 3, dtype=torch.float64)
    layer = trace(Layer(W, "identity"), z, x)
    certificate = proven(layer, z, x, norm=name, damping=damping)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.norm is not None
    steps = certificate.iterations(1e-6, certificate.distance_bound(z + damping * x, z))
    M, y, truth, b = rational_matrix(W), column(z), affine_truth(W, x), rational(damping)
    for _ in range(steps):
        y = (1 - b) * y + b * (M * y + column(x))
        y = fmpq_mat(3, 1, [fmpq(round(v * 2**200), 2**200) for v in entries(y)])
    weights = [1.0] * 3 if certificate.norm.weights is None else certificate.norm.weights[0].tolist()
    gaps = [abs(a - t) * rational(w) for a, t, w in zip(entries(y), entries(truth), weights, strict=True)]
    assert max(gaps) <= fmpq(1, 10**6)


def test_t13_componentwise_claims_convergence_for_dampings_up_to_one() -> None:
    layer, z = Layer(matrix([[0.5]]), "identity"), torch.ones(1, 1, dtype=torch.float64)
    for damping, kind in ((1.0, Converges), (0.25, Converges), (1.25, UniqueEquilibrium), (-0.5, UniqueEquilibrium)):
        certificate = proven(layer, z, z, damping=damping)
        assert certificate.verdict is Verdict.CERTIFIED
        assert isinstance(certificate.claim, kind)
        assert_accepted(certificate, layer, z, z)


# ------------------------------------------------------------------------------------------------------- boxes


@settings(max_examples=12)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 3), radius=st.floats(0.01, 4.0), shift=st.floats(0.0, 0.02))
def test_t13_componentwise_a_certified_box_holds_the_one_equilibrium_of_a_relu_layer(
    seed: int, size: int, radius: float, shift: float
) -> None:
    W = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    W *= 0.7 / float(torch.linalg.eigvals(W.abs()).abs().max())
    x = torch.randn(1, size, generator=seeded(seed + 1), dtype=torch.float64)
    found = relu_equilibria(W, x[0])
    center = matrix([[float(v) for v in found[0]]]) + shift * radius
    layer = trace(Layer(W, "relu"), center, x)
    certificate = proven(layer, center, x, region=Ball(center, radius))
    assume(certificate.verdict is Verdict.CERTIFIED)
    assert certificate.norm is not None
    assert certificate.norm.weights is not None
    weights = [rational(w) for w in certificate.norm.weights[0].tolist()]
    middle = [rational(v) for v in center[0].tolist()]

    def apart(y: Vector) -> Any:
        return max(w * abs(a - c) for w, a, c in zip(weights, y, middle, strict=True))

    exact = [[fmpq(v.numerator, v.denominator) for v in y] for y in found]
    inside = [y for y in exact if apart(y) <= rational(radius)]
    assert len(inside) == 1
    M = rational_matrix(W)
    for signs in itertools.product((-1, 1), repeat=size):
        corner = [c + s * rational(radius) / w for c, s, w in zip(middle, signs, weights, strict=True)]
        image = M * fmpq_mat(size, 1, corner) + column(x)
        assert apart([max(v, fmpq(0)) for v in entries(image)]) <= rational(radius)
    half = 0.5 * radius / certificate.norm.weights[0]
    y = center + half * torch.randn(1, size, generator=seeded(seed), dtype=torch.float64).clamp(-1, 1)
    (bound,) = componentwise_error_bound(certificate, layer, y, x)
    assert bool(bound.isfinite().all())
    assert errors_within(y, inside[0], bound)
    assert_accepted(certificate, layer, center, x)


def test_t13_componentwise_a_box_need_not_have_the_shape_of_the_vector() -> None:
    """No contraction in plain linf (a row sum of 2.25), but the box [-1, 1]^2 is mapped into itself."""

    class Bounded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.W = nn.Parameter(matrix([[0.5, 4.0], [0.0, 0.5]]))

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return 0.5 * torch.tanh(z @ self.W.T) + x

    layer, z = Bounded(), torch.zeros(2, 2, dtype=torch.float64)
    x, ball = torch.full_like(z, 0.25), Ball(z, 1.0, Norm("linf"))
    assert certify(layer, z, x, region=ball, theorem="local_picard").verdict is not Verdict.CERTIFIED
    certificate = proven(layer, z, x, region=ball)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.region, Ball)
    assert certificate.evidence is not None
    assert certificate.evidence.numbers["image"] < 0.7501
    assert_accepted(certificate, layer, z, x)
    outside = torch.stack([z[0], z[1] + 1.5])
    (bound,) = componentwise_error_bound(certificate, layer, outside, x)
    assert bool(bound[0].isfinite().all())
    assert bool(bound[1].isinf().all())
    assert float(bound[0, 1]) < float(bound[0, 0])


def test_t13_componentwise_the_slopes_of_the_box_count() -> None:
    """tanh(4 z) contracts nowhere near 0 and everywhere in a box around its equilibrium near 1."""
    layer, z = Layer(matrix([[4.0]]), "tanh"), torch.full((1, 1), 0.9993, dtype=torch.float64)
    x = torch.zeros_like(z)
    assert proven(layer, z, x).verdict is not Verdict.CERTIFIED
    assert proven(layer, z, x, region=Ball(z, 0.2)).verdict is Verdict.CERTIFIED
    assert proven(layer, z, x, region=Ball(z, 1.5)).verdict is not Verdict.CERTIFIED


def test_t13_componentwise_bounds_follow_from_contractions_in_linf_too() -> None:
    layer, z = Layer(matrix([[0.5, 0.25], [0.125, 0.5]]), "identity"), torch.ones(3, 2, dtype=torch.float64)
    for options in ({"norm": "linf"}, {"norm": "weighted_linf"}, {"norm": "linf", "theorem": "damped", "damping": 0.5}):
        certificate = certify(layer, z, z, **options)
        assert certificate.theorem in ("picard", "damped")
        (bound,) = componentwise_error_bound(certificate, layer, z, z)
        assert all(errors_within(z[k], entries(affine_truth(layer.weight.detach(), z[k])), bound[k]) for k in range(3))
    with pytest.raises(InputError, match="bounds no components"):
        componentwise_error_bound(certify(layer, z, z, norm="l2"), layer, z, z)


@pytest.mark.parametrize("norm", ["l1", "l2", "weighted_l1", Norm("l2")])
def test_t13_componentwise_is_about_linf(norm: str | Norm) -> None:
    layer, z = Layer(matrix([[0.5]]), "identity"), torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(InputError, match="linf"):
        proven(layer, z, z, norm=norm)
    with pytest.raises(InputError, match="linf"):
        proven(layer, z, z, region=Ball(z, 1.0, Norm("l2")))


@given(seed=st.integers(0, 10**6), size=st.integers(1, 4))
def test_t13_componentwise_the_growth_is_an_upper_bound(seed: int, size: int) -> None:
    W = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    z = torch.zeros(1, size, dtype=torch.float64)
    problem = Problem(trace(Layer(W, "identity"), z, z), z, (z,))
    x = proposed_vector(problem.jacobian, 1)
    q = rational(growth(problem.jacobian, x, 1))
    moduli, vector = rational_matrix(W.abs()), column(x[0])
    ratios = [a / b for a, b in zip(entries(moduli * vector), entries(vector), strict=True)]
    assert max(ratios) <= q <= max(ratios) * (1 + fmpq(1, 2**45))


# ------------------------------------------------------------------------------------------------- certificates


def _with_digest(document: dict[str, Any]) -> dict[str, Any]:
    from deqops.verify.checker._document import _digest

    return {**document, "digest": _digest(document)}


Given = tuple[Layer, Tensor, Tensor, Certificate]


@pytest.fixture(scope="module", params=["everywhere", "ball"])
def given_certificate(request: pytest.FixtureRequest) -> Given:
    W = matrix([[0.4, 0.3, 0.0], [0.1, 0.5, 0.2], [0.3, 0.0, 0.4]])
    layer, x = Layer(W, "tanh"), matrix([[0.5, -0.2, 0.1]])
    z = x.clone()
    with torch.no_grad():
        for _ in range(80):
            z = layer(z, x)
    region = {"region": Ball(z, 0.25)} if request.param == "ball" else {}
    certificate = proven(layer, z, x, **region)
    assert certificate.verdict is Verdict.CERTIFIED
    return layer, z, x, certificate


@pytest.mark.parametrize("part", ["contraction", "size", "inverse_size", "factor"])
def test_lower_numbers_are_rejected(part: str, given_certificate: Given) -> None:
    layer, z, x, certificate = given_certificate
    document = certificate.document()
    assert_accepted(document, layer, z, x)
    spoilt = copy.deepcopy(document)
    spoilt["evidence"][part] = (float.fromhex(spoilt["evidence"][part]) * (1 - 1e-6)).hex()
    assert not check(_with_digest(spoilt), layer, z, x).accepted


@pytest.mark.parametrize("entry", [0.0, -1.0, math.nan, math.inf, 1e-3, 1e3])
def test_another_vector_is_rejected(entry: float, given_certificate: Given) -> None:
    """Not positive, not a number, or positive and not shrunk by N."""
    layer, z, x, certificate = given_certificate
    assert certificate.evidence is not None
    vector = certificate.evidence.tensors["vector"][0].clone()
    vector[1] = entry
    evidence = dataclasses.replace(certificate.evidence, tensors={"vector": (vector,)})
    spoilt = dataclasses.replace(certificate, evidence=evidence).document()
    assert not check(spoilt, layer, z, x).accepted


@pytest.mark.parametrize("what", ["rate", "damping", "contraction claim", "image"])
def test_other_claims_are_rejected(what: str, given_certificate: Given) -> None:
    layer, z, x, certificate = given_certificate
    spoilt = copy.deepcopy(certificate.document())
    if what == "rate":
        spoilt["rate"] = (0.5).hex()
    elif what == "damping":
        spoilt["claim"]["iteration"]["damping"] = (1.5).hex()
    elif what == "contraction claim":
        spoilt["claim"] = {"kind": "contraction", "norm": spoilt["norm"], "region": spoilt["region"]}
    else:
        old = float.fromhex(spoilt["evidence"]["image"])
        spoilt["evidence"]["image"] = (old * (1 - 1e-6) if old else 0.25).hex()
        spoilt["hypotheses"] = []
    assert not check(_with_digest(spoilt), layer, z, x).accepted


@pytest.mark.parametrize("given_certificate", ["ball"], indirect=True)
@pytest.mark.parametrize("what", ["larger", "elsewhere", "global"])
def test_other_boxes_are_rejected(what: str, given_certificate: Given) -> None:
    layer, z, x, certificate = given_certificate
    region = certificate.region
    assert isinstance(region, Ball)
    if what == "global":
        document = certificate.document()
        document["region"] = document["claim"]["region"] = {"kind": "global"}
        assert not check(_with_digest(document), layer, z, x).accepted
        return
    other = Ball(region.leaves[0] + 0.5, region.radius, region.norm)
    if what == "larger":
        other = Ball(region.leaves[0], 30.0, region.norm)
    claim = dataclasses.replace(certificate.claim, region=other)
    spoilt = dataclasses.replace(certificate, region=other, claim=claim, hypotheses=())
    assert not check(spoilt.document(), layer, z, x).accepted


def test_the_file_gives_the_same_certificate(tmp_path: Path, given_certificate: Given) -> None:
    layer, z, x, certificate = given_certificate
    certificate.save(tmp_path / "c.json")
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.document() == certificate.document()
    assert "N x <= q x" in loaded.explain()
    assert_accepted(tmp_path / "c.json", layer, z, x)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            componentwise_error_bound(loaded, layer, z, x),
            componentwise_error_bound(certificate, layer, z, x),
            strict=True,
        )
    )


def test_a_state_of_several_leaves_and_problems() -> None:
    class Pair(nn.Module):
        def forward(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            u, v = state
            return 0.5 * torch.tanh(v.sum(dim=1)) + x, 0.25 * v + 0.125 * u[:, None]

    x = torch.tensor([0.5, -0.25, 0.0], dtype=torch.float64)
    state = (x.clone(), torch.zeros(3, 2, dtype=torch.float64))
    certificate = certify(Pair(), state, x, theorem="componentwise")
    assert certificate.verdict is Verdict.CERTIFIED
    assert_accepted(certificate, Pair(), state, x)
    bounds = componentwise_error_bound(certificate, Pair(), state, x)
    y = state
    with torch.no_grad():
        for _ in range(300):
            y = Pair()(y, x)
    for start, end, bound in zip(state, y, bounds, strict=True):
        assert bound.shape == start.shape
        assert bool(((end - start).abs() <= bound + 1e-12).all())
    assert float(bounds[0][2]) == 0.0
