"""T9 `refute`: convergence, uniqueness and contraction in any norm, each against what is exactly true.

The truth: eigenvalues of exact matrices in complex balls; the number of equilibria of one tanh unit, known in closed
form; ReLU's equilibria by trying every set of active units in rationals; iterations in 200-bit arithmetic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from cli_cases import edit_certificate
from exact import relu_equilibria, seeded
from flint import acb_mat
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import ModelFileError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted
from deqops.verify import (
    Ball,
    Box,
    Certificate,
    Contraction,
    Converges,
    Norm,
    UniqueEquilibrium,
    Verdict,
    certify,
    check,
)
from deqops.verify._evidence import Evidence
from deqops.verify._located import Iteration, enclosed
from deqops.verify._midrad import MidRad
from deqops.verify._problem import Problem
from deqops.verify._region import Global
from deqops.verify._search import Located
from deqops.verify._unstable import eigenvalue_witness, index_witness, unstable_witness
from deqops.verify._verified_solve import determinant_sign

Map = Callable[..., Tensor]
sizes, seeds = st.integers(1, 4), st.integers(0, 10**6)


def double(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def linear(weight: Tensor, bias: Tensor | None = None) -> Layer:
    return Layer(weight, "identity", bias=torch.ones(len(weight), dtype=torch.float64) if bias is None else bias)


def unit(gain: float, bias: float, activation: Map = torch.tanh) -> Layer:
    return Layer(double([[gain]]), activation, bias=double([bias]))


def start(layer: Layer) -> Tensor:
    return torch.zeros(1, len(layer.bias), dtype=torch.float64)


def problem_of(layer: nn.Module, state: Tensor) -> Problem:
    return Problem(trace(layer, state), state, ())


def moduli(matrix: Tensor) -> list[Any]:
    """The moduli of all eigenvalues, as balls; empty where they could not be enclosed."""
    n = len(matrix)
    try:
        values = acb_mat(n, n, [float(v) for v in matrix.reshape(-1)]).eig()
    except (ValueError, ZeroDivisionError):
        return []
    return [abs(value) for value in values]


def random_matrix(size: int, seed: int, scale: float) -> Tensor:
    return scale * torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)


# ============================================================================================ eigenvalues, exactly


@given(sizes, seeds, st.sampled_from([0.3, 0.6, 1.0, 2.0]))
def test_t9_an_eigenvalue_witness_is_true_and_found(size: int, seed: int, scale: float) -> None:
    """T9: contraction in any norm is refuted just where the spectral radius exceeds 1."""
    weight = random_matrix(size, seed, scale)
    truth = moduli(weight)
    assume(truth)
    layer = linear(weight)
    found = eigenvalue_witness(problem_of(layer, start(layer)), (), Global())
    if all(bool(m <= 1) for m in truth):
        assert found is None
    if found is not None:
        assert any(bool(m > found.numbers["growth"]) for m in truth)
    elif len(truth) == size:
        assert not any(bool(m > 1.05) for m in truth)


@given(sizes, seeds, st.sampled_from([0.3, 0.6, 1.0, 2.0]), st.sampled_from([1.0, 0.5, 0.1, 1.5]))
def test_t9_convergence_of_linear_iterations(size: int, seed: int, scale: float, damping: float) -> None:
    """T9: refuted only where (1 - b) I + b W has spectral radius >= 1, and then whenever it is well above 1."""
    weight = random_matrix(size, seed, scale)
    truth = moduli((1 - damping) * torch.eye(size, dtype=torch.float64) + damping * weight)
    assume(truth)
    layer = linear(weight)
    certificate = certify(layer, start(layer), damping=damping)
    if certificate.verdict is Verdict.REFUTED:
        assert isinstance(certificate.claim, Converges)
        assert certificate.claim.damping == damping
        assert any(bool(m > 1 - 1e-12) for m in truth)
    if any(bool(m > 1.05) for m in truth):
        assert certificate.verdict is Verdict.REFUTED or isinstance(certificate.claim, UniqueEquilibrium)
        assert certificate.verdict is Verdict.CERTIFIED or check(certificate, layer, start(layer)).accepted


@given(sizes, seeds)
def test_t9_the_sign_of_a_determinant(size: int, seed: int) -> None:
    """The sign that the index witness needs, against exact rationals."""
    from exact import fractions
    from flint import fmpq, fmpq_mat

    weight = torch.round(4 * random_matrix(size, seed, 1.0)) / 4
    rows = fractions(weight)
    exact = fmpq_mat(size, size, [fmpq(v.numerator, v.denominator) for row in rows for v in row]).det()
    found = determinant_sign(MidRad.exact(weight))
    assert found == (exact > 0) - (exact < 0)
    spread = MidRad(weight, torch.full_like(weight, 10.0))
    assert determinant_sign(spread) == 0


# ================================================================================== the equilibria of one tanh unit


def fold(gain: float) -> float:
    """z = tanh(a z + c), a > 1, has three equilibria just for |c| < this: where two of them meet, 1 - z^2 = 1 / a."""
    y = mpmath.sqrt(1 - 1 / mpmath.mpf(gain))
    return float(gain * y - mpmath.atanh(y))


@given(st.floats(0.5, 4.0), st.floats(-1.5, 1.5))
def test_t9_three_equilibria_of_a_unit_refute_uniqueness_and_one_does_not(gain: float, bias: float) -> None:
    layer = unit(gain, bias)
    certificate = certify(layer, start(layer), theorem="monotone")
    assert isinstance(certificate.claim, UniqueEquilibrium)
    limit = fold(gain) if gain > 1 else -1.0
    if certificate.verdict is Verdict.REFUTED:
        assert abs(bias) < limit * (1 + 1e-12)
        assert_accepted(certificate, layer, start(layer))
    if abs(bias) < 0.9 * limit:
        assert certificate.verdict is Verdict.REFUTED


@settings(max_examples=30)
@given(seeds)
def test_t9_relu_equilibria_by_enumeration(seed: int) -> None:
    """T9: uniqueness is refuted only where the exact equilibria are two or more."""
    weight = torch.round(8 * random_matrix(3, seed, 1.2)) / 8
    bias = torch.round(8 * torch.randn(3, generator=seeded(seed + 1), dtype=torch.float64)) / 8
    layer = Layer(weight, "relu", bias=bias)
    certificate = certify(layer, start(layer), theorem="monotone")
    if certificate.verdict is Verdict.REFUTED:
        assert len(relu_equilibria(weight, bias)) >= 2
        assert_accepted(certificate, layer, start(layer))


def test_t9_most_layers_with_several_equilibria_are_refuted() -> None:
    several = refuted = 0
    for seed in range(40):
        weight = random_matrix(3, seed, 1.5)
        bias = torch.randn(3, generator=seeded(seed + 1000), dtype=torch.float64)
        if len(relu_equilibria(weight, bias)) < 2:
            continue
        layer = Layer(weight, "relu", bias=bias)
        several += 1
        refuted += certify(layer, start(layer), theorem="monotone").verdict is Verdict.REFUTED
    assert several >= 5
    assert refuted >= 0.8 * several


@pytest.mark.parametrize("gain", [1.5, 2.0, 3.0])
def test_t9_a_cycle_of_two(gain: float) -> None:
    """z -> -tanh(a z), a > 1: +-y with y = tanh(a y) is a cycle; damped by 1 / (1 + a) the iteration converges."""
    layer = unit(-gain, 0.0)
    certificate = certify(layer, double([[0.3]]))
    if certificate.verdict is Verdict.CERTIFIED:  # the one equilibrium, by T5 or T6: ask about the iteration itself
        assert isinstance(certificate.claim, UniqueEquilibrium) or certificate.claim.damping != 1
    plain = certify(layer, double([[0.3]]), theorem="damped")
    assert plain.verdict is Verdict.REFUTED
    assert plain.evidence is not None
    assert plain.evidence.kind == "cycle"
    points = plain.evidence.tensors["points"][0].reshape(-1)
    mpmath.mp.prec = 200
    y = mpmath.findroot(lambda v: v - mpmath.tanh(gain * v), 0.9)
    assert {round(float(points[0]), 9), round(float(points[1]), 9)} == {round(float(y), 9), -round(float(y), 9)}
    assert_accepted(plain, layer, double([[0.3]]))
    calm = certify(layer, double([[0.3]]), theorem="damped", damping=1 / (1 + gain))
    assert calm.verdict is not Verdict.REFUTED


def test_t9_a_rotation_that_expands_is_unstable_and_settles_on_no_short_cycle() -> None:
    angle, gain = 1.0, 1.3
    weight = gain * double([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    layer = Layer(weight, "tanh", bias=double([0.1, 0.0]))
    certificate = certify(layer, start(layer), theorem="damped")
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.evidence is not None
    assert certificate.evidence.kind == "unstable"
    assert_accepted(certificate, layer, start(layer))
    assert "growth" in certificate.evidence.numbers
    assert "Witness:" in certificate.explain()


# ================================================================================================= no witness


@given(st.floats(0.0, 0.999), st.floats(-2, 2), st.sampled_from([torch.tanh, torch.relu, torch.sigmoid]))
def test_t9_contractions_are_never_refuted(gain: float, bias: float, activation: Map) -> None:
    layer = unit(gain, bias, activation)
    for theorem in ("auto", "picard", "damped", "monotone"):
        assert certify(layer, start(layer), theorem=theorem).verdict is not Verdict.REFUTED


def test_t9_instability_refutes_nothing_for_maps_that_are_not_analytic() -> None:
    """The tent map reaches its unstable equilibrium 4/3 exactly, from infinitely many starts."""

    def landing(z: Tensor) -> Tensor:
        return torch.relu(2 - 2 * torch.abs(z - 1))

    problem = problem_of_map(landing, double([[0.9]]))
    found = enclosed(Iteration(problem), [double([[4 / 3]])], 0)
    assert found is not None
    assert unstable_witness(Located(problem, found), 1.0) is None


def problem_of_map(G: Map, state: Tensor) -> Problem:
    return Problem(trace(G, state), state, ())


def located(layer: nn.Module, point: Tensor) -> Located:
    problem = problem_of(layer, point)
    orbit = enclosed(Iteration(problem), [point], 0)
    assert orbit is not None
    return Located(problem, orbit)


class Steep(nn.Module):
    """1.5 z for z < 0 and 3 z above, times -1: an equilibrium at the kink where every slope is below -1."""

    def forward(self, z: Tensor) -> Tensor:
        return -(1.5 * z + 1.5 * torch.maximum(z, torch.zeros_like(z)))


def test_t9_an_index_needs_a_derivative_a_kink_has_none() -> None:
    layer, zero = Steep(), double([[0.0]])
    found = located(layer, zero)
    assert index_witness(found, 1.0) is None
    forged = _refuted(
        certify(layer, zero, theorem="damped"), Evidence("index", {"radius": 1e-9}, {"problem": 0}, {"point": (zero,)})
    )
    assert not check(forged, layer, zero).accepted
    beside = double([[-1e-3]])
    shifted = Evidence("index", {"radius": 1e-3}, {"problem": 0}, {"point": (beside,)})  # the kink is its boundary
    assert not check(_refuted(forged, shifted), layer, zero).accepted


def test_t9_an_index_witness_of_a_map_with_kinks_elsewhere() -> None:
    """z -> leaky_relu(-2 z + 3, 1/2): z* = 1 with slope -2."""
    layer = unit(-2.0, 3.0, lambda v: torch.nn.functional.leaky_relu(v, 0.5))
    evidence = index_witness(located(layer, double([[1.0]])), 1.0)
    assert evidence is not None
    assert index_witness(located(layer, double([[1.0]])), 0.5) is None  # slope -1/2: it converges there
    certificate = _refuted(certify(layer, double([[1.0]]), theorem="damped"), evidence)
    assert_accepted(certificate, layer, double([[1.0]]))


class Returning(nn.Module):
    """z -> 2 z where |z| < 1, else 0: every start ends at 0, in finitely many steps."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.where(z.abs() < 1, 2 * z, 0 * z)


def test_t9_an_index_needs_a_map_that_jumps_nowhere() -> None:
    layer, zero = Returning(), double([[0.0]])
    assert index_witness(located(layer, zero), 1.0) is None
    open_ = certify(layer, zero, theorem="damped", region=Global())
    assert open_.verdict is Verdict.UNKNOWN
    forged = _refuted(open_, Evidence("index", {"radius": 1e-9}, {"problem": 0}, {"point": (zero,)}))
    assert "jumps" in check(forged, layer, zero).reasons[0]


def test_t9_an_eigenvalue_apart_from_the_jumps_of_a_map() -> None:
    layer, start = Returning(), double([[0.1]])
    assert_accepted(certify(layer, start, theorem="picard"), layer, start)


# ======================================================================================================= the region


def test_t9_what_lies_outside_the_region_is_no_witness() -> None:
    layer = unit(2.0, 0.0)  # equilibria 0 and about +-0.9575
    inside = certify(layer, double([[0.95]]), region=Ball(double([[0.95]]), 0.05), theorem="newton_kantorovich")
    assert inside.verdict is Verdict.CERTIFIED
    for radius, expected in ((0.9, Verdict.CERTIFIED), (1.2, Verdict.REFUTED)):
        certificate = certify(
            layer, double([[0.95]]), region=Ball(double([[0.95]]), radius), theorem="newton_kantorovich", norm="linf"
        )
        assert certificate.verdict is not (Verdict.REFUTED if expected is Verdict.CERTIFIED else Verdict.CERTIFIED)
        if radius == 1.2:
            assert certificate.verdict is Verdict.REFUTED
            assert_accepted(certificate, layer, double([[0.95]]))


def test_t9_a_batch_is_refuted_by_one_problem() -> None:
    class Fed(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(2 * z + x)

    zero, x = torch.zeros(3, 1, dtype=torch.float64), double([[3.0], [0.1], [-3.0]])
    certificate = certify(Fed(), zero, x, theorem="monotone")
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.evidence is not None
    assert certificate.evidence.counts["problem"] == 1
    assert_accepted(certificate, Fed(), zero, x)
    other = certify(Fed(), zero, double([[3.0], [2.0], [-3.0]]), theorem="monotone")
    assert other.verdict is not Verdict.REFUTED


# ======================================================================================================= the checker


def _refuted(certificate: Certificate, evidence: Evidence) -> Certificate:
    """A certificate that states a refutation of convergence with the given evidence."""
    region = Global()
    return replace(
        certificate,
        verdict=Verdict.REFUTED,
        theorem="refute",
        evidence=evidence,
        claim=Converges(region, 1.0),
        region=region,
        norm=Norm("l2"),
        rate=None,
        hypotheses=(),
        reason="",
        contributions=(),
    )


CASES: dict[str, Callable[[], tuple[nn.Module, Tensor, Certificate]]] = {}


def case(function: Callable[[], tuple[nn.Module, Tensor, Certificate]]) -> Callable[[], Any]:
    CASES[function.__name__] = function
    return function


@case
def two_equilibria() -> tuple[nn.Module, Tensor, Certificate]:
    layer = unit(2.0, 0.1)
    return layer, start(layer), certify(layer, start(layer), theorem="monotone")


@case
def cycle() -> tuple[nn.Module, Tensor, Certificate]:
    layer = unit(-2.0, 0.1)
    return layer, double([[0.3]]), certify(layer, double([[0.3]]), theorem="damped")


@case
def unstable() -> tuple[nn.Module, Tensor, Certificate]:
    layer = linear(double([[1.2, 0.3], [-0.3, 1.2]]))
    return layer, start(layer), certify(layer, start(layer), theorem="damped")


@case
def eigenvalue() -> tuple[nn.Module, Tensor, Certificate]:
    layer = linear(double([[1.2, 0.3], [-0.3, 1.2]]))
    found = eigenvalue_witness(problem_of(layer, start(layer)), (), Global())
    assert found is not None
    certificate = certify(layer, start(layer), norm="l2", theorem="picard")
    return layer, start(layer), replace(certificate, evidence=found)


@pytest.mark.parametrize("name", CASES)
def test_each_witness_is_accepted_saved_and_loaded(name: str, tmp_path: Path) -> None:
    layer, state, certificate = CASES[name]()
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.evidence is not None
    assert certificate.evidence.kind == name
    certificate.save(tmp_path / "c.json")
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.document() == certificate.document()
    report = check(tmp_path / "c.json", layer, state)
    assert report.accepted, report.reasons
    assert loaded.describe_witness()


def _scaled(name: str, factor: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(d: dict[str, Any]) -> dict[str, Any]:
        return {"evidence": {**d["evidence"], name: (factor * float.fromhex(d["evidence"][name])).hex()}}

    return change


def _claim(d: dict[str, Any], kind: str) -> dict[str, Any]:
    region = d["claim"]["region"]
    if kind == "contraction":
        return {"claim": {"kind": kind, "norm": d["norm"] or {"order": "l2", "weights": None}, "region": region}}
    if kind == "unique_equilibrium":
        return {"claim": {"kind": kind, "region": region}}
    iteration = {"kind": "picard", "damping": "0x1p+0"}
    return {"claim": {"kind": kind, "iteration": iteration, "region": region}}


SPOILT: list[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("two_equilibria", _scaled("first_radius", 1e-9)),
    ("two_equilibria", _scaled("second_radius", 0.0)),
    ("two_equilibria", _scaled("first_radius", 1e15)),
    ("two_equilibria", lambda d: {"evidence": {**d["evidence"], "first": d["evidence"]["second"]}}),
    ("two_equilibria", lambda d: {"evidence": {**d["evidence"], "problem": 1}}),
    ("two_equilibria", lambda d: {"verdict": "certified"}),
    ("cycle", _scaled("radius", 1e-9)),
    ("cycle", _scaled("radius", 1e15)),
    ("cycle", lambda d: _claim(d, "unique_equilibrium")),
    ("cycle", lambda d: _claim(d, "contraction")),
    ("unstable", _scaled("growth", 2.0)),
    ("unstable", _scaled("growth", 0.5)),
    ("unstable", lambda d: _claim(d, "unique_equilibrium")),
    ("unstable", lambda d: {"evidence": {**d["evidence"], "form": d["evidence"]["point"]}}),
    ("eigenvalue", _scaled("growth", 2.0)),
    ("eigenvalue", _scaled("radius", 0.0)),
    ("eigenvalue", lambda d: _claim(d, "unique_equilibrium")),
    ("eigenvalue", lambda d: _claim(d, "converges")),
]


@pytest.mark.parametrize(("name", "change"), SPOILT)
def test_spoilt_refutations_are_rejected(
    name: str, change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path
) -> None:
    layer, state, certificate = CASES[name]()
    path = tmp_path / "c.json"
    certificate.save(path)
    changed = change(json.loads(path.read_text()))
    assert not check(edit_certificate(path, **changed), layer, state).accepted


@pytest.mark.parametrize("name", CASES)
def test_a_witness_against_other_weights_is_rejected(name: str) -> None:
    """The same points and forms, the fingerprint of a map that contracts."""
    layer, state, certificate = CASES[name]()
    with torch.no_grad():
        layer.weight.mul_(0.1)  # type: ignore[union-attr,operator]
    calm = certify(layer, state)
    assert calm.verdict is Verdict.CERTIFIED
    forged = replace(certificate, fingerprint=calm.fingerprint)
    assert not check(forged, layer, state).accepted


@pytest.mark.parametrize("name", ["unstable", "eigenvalue"])
def test_a_form_that_proves_nothing_is_rejected(name: str) -> None:
    layer, state, certificate = CASES[name]()
    evidence = certificate.evidence
    assert evidence is not None
    for form in (
        torch.eye(2, dtype=torch.float64),
        torch.zeros(2, 2, dtype=torch.float64),
        double([[-1.0, 1.0], [0.0, -1.0]]),
    ):
        tensors = {**evidence.tensors, "form": (form,)}
        forged = replace(certificate, evidence=replace(evidence, tensors=tensors))
        assert not check(forged, layer, state).accepted
    tensors = {**evidence.tensors, "form": (torch.eye(3, dtype=torch.float64),)}
    document = replace(certificate, evidence=replace(evidence, tensors=tensors)).document()
    with pytest.raises(ModelFileError, match="size"):
        Certificate.from_document(document)


def test_contraction_claims_say_what_refutes_them() -> None:
    layer, state, certificate = CASES["eigenvalue"]()
    assert isinstance(certificate.claim, Contraction)
    assert "eigenvalue" in certificate.explain()
    assert_accepted(certificate, layer, state)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("local", [False, True])
def test_t9_an_operator_without_derivatives_is_refuted_by_any_direction(norm: str, local: bool) -> None:
    y = torch.ones(3, 4, dtype=torch.float64)
    region = Box(y - 5, y + 5) if local else None
    certificate = certify(lambda z: (1.5 * z).detach(), y, norm=norm, region=region)
    assert certificate.verdict is Verdict.REFUTED
    assert_accepted(certificate, lambda z: (1.5 * z).detach(), y)
    jumping = certify(lambda z: torch.floor(3 * z), y, norm=norm, region=region)
    assert jumping.verdict is not Verdict.CERTIFIED
    assert jumping.verdict is Verdict.UNKNOWN or check(jumping, lambda z: torch.floor(3 * z), y).accepted


def test_t9_a_claim_in_a_ball_of_its_own_norm_is_refuted_in_that_norm() -> None:
    """Nothing is known of the rate, so that no theorem's finding says which norm the claim is in."""
    y = torch.tensor([[0.75, -0.5]], dtype=torch.float64)

    def G(z: torch.Tensor) -> torch.Tensor:
        return 1.5 * z / z.square().mean(dim=1, keepdim=True).sqrt()

    region = Ball(y, 1.0, Norm("linf"))
    certificate = certify(G, y, region=region, theorem="local_picard")
    assert any("operation" in attempt for attempt in certificate.attempts)
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.norm is not None
    assert certificate.norm.describe() == "linf"
    assert isinstance(certificate.claim, Contraction)
    assert certificate.claim.norm.describe() == "linf"
    assert_accepted(certificate, G, y)
