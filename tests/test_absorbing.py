"""T11 `absorbing`: global convergence from a contraction on a box that all values of G fall into."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from exact import seeded
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import InputError, UnsupportedOperationError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted
from deqops.verify import Certificate, Converges, Global, UniqueEquilibrium, Verdict, certify, check
from deqops.verify._absorbing import absorbing_box
from deqops.verify._problem import Problem
from deqops.verify.checker._arithmetic import working_precision
from deqops.verify.checker._boxes import swept
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._subject import Subject
from deqops.verify.checker._values import Values


def problem_of(layer: nn.Module, z: Tensor, *inputs: Tensor) -> Problem:
    return Problem(trace(layer, z, *inputs), z, inputs)


def saturated(size: int, gain: float, push: float, seed: int) -> tuple[Tensor, Tensor]:
    """A weight of l2 norm `gain` > 1, and a bias that drives tanh to where it is flat."""
    weight = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    weight *= gain / torch.linalg.matrix_norm(weight, 2)
    signs = torch.sign(torch.randn(size, generator=seeded(seed + 1), dtype=torch.float64))
    return weight, push * signs


def proven(layer: nn.Module, z: Tensor, *inputs: Tensor) -> Certificate:
    return certify(layer, z, *inputs, theorem="absorbing")


@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 4),
    gain=st.floats(1.0, 3.0),
    push=st.floats(1.0, 8.0),
    scale=st.sampled_from([1.0, 1e3, 1e9]),
)
def test_t11_absorbing_every_start_converges_to_one_equilibrium(
    seed: int, size: int, gain: float, push: float, scale: float
) -> None:
    weight, bias = saturated(size, gain, push, seed)
    z = torch.zeros(1, size, dtype=torch.float64)
    layer = Layer(weight, "tanh")
    box = absorbing_box(problem_of(layer, z, bias[None]))
    assert box is not None
    certificate = proven(layer, z, bias[None])
    assume(certificate.verdict is Verdict.CERTIFIED)
    bound = certificate.bound
    assume(bound is not None and bound < 0.9)
    starts = scale * torch.randn(3, size, generator=seeded(seed + 2), dtype=torch.float64)
    limits = []
    with mpmath.workdps(40):
        W, x = mpmath.matrix(weight.tolist()), mpmath.matrix(bias.tolist())
        for start in starts:
            y = mpmath.matrix(start.tolist())
            for step in range(1, 1 + 400):
                y = (W * y + x).apply(mpmath.tanh)
                if step >= box.sweeps:
                    ends = zip(y, box.lower[0][0].tolist(), box.upper[0][0].tolist(), strict=True)
                    assert all(a <= v <= b for v, a, b in ends)
            limits.append(y)
        assert all(mpmath.norm(y - limits[0]) < 1e-15 for y in limits)
        assert all(mpmath.norm(y - (W * y + x).apply(mpmath.tanh)) < 1e-15 for y in limits)


def test_t11_absorbing_is_not_vacuous() -> None:
    """Layers of norm 2 whose bias saturates them: none contracts in l2 everywhere, most are certified."""
    found = 0
    for seed in range(10):
        weight, bias = saturated(6, 2.0, 4.0, seed)
        layer, z = Layer(weight, "tanh"), torch.zeros(1, 6, dtype=torch.float64)
        certificate = proven(layer, z, bias[None])
        if certificate.verdict is Verdict.CERTIFIED:
            found += 1
            report = check(certificate, layer, z, bias[None])
            assert report.accepted, report.reasons
    assert found >= 7


def test_t11_absorbing_auto_finds_it_and_bounds_errors_in_the_box() -> None:
    weight, bias = saturated(8, 2.0, 4.0, 1)
    layer, z = Layer(weight, "tanh"), torch.zeros(2, 8, dtype=torch.float64)
    x = torch.stack([bias, 1.1 * bias])
    certificate = certify(layer, z, x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "absorbing"
    assert isinstance(certificate.claim, Converges)
    assert isinstance(certificate.region, Global)
    assert certificate.rate is None
    assert certificate.factor is None
    y = z
    with torch.no_grad():
        for _ in range(300):
            y = layer(y, x)
    inside = certificate.error_bound(layer, y, x).value
    assert float(inside.max()) < 1e-9
    mixed = certificate.error_bound(layer, torch.stack([y[0], torch.full_like(y[1], 2.0)]), x).value
    assert math.isfinite(float(mixed[0]))
    assert math.isinf(float(mixed[1]))
    with pytest.raises(InputError, match="no rate"):
        certificate.iterations(1e-6, 1.0)


@pytest.mark.parametrize("gain", [1.01, 1.5, 4.0])
def test_t11_absorbing_two_stable_equilibria_are_never_made_one(gain: float) -> None:
    """`tanh(g y)` has three equilibria for g > 1, one for g <= 1."""
    layer, z = Layer(torch.tensor([[gain]], dtype=torch.float64), "tanh"), torch.zeros(1, 1, dtype=torch.float64)
    assert proven(layer, z, z).verdict is not Verdict.CERTIFIED


def test_t11_absorbing_a_damped_iteration_is_not_claimed() -> None:
    weight, bias = saturated(4, 2.0, 4.0, 1)
    layer, z = Layer(weight, "tanh"), torch.zeros(1, 4, dtype=torch.float64)
    certificate = certify(layer, z, bias[None], theorem="absorbing", damping=0.5)
    assert certificate.verdict is Verdict.CERTIFIED
    assert isinstance(certificate.claim, UniqueEquilibrium)
    assert_accepted(certificate, layer, z, bias[None])


class Mixed(nn.Module):
    """A sum of bounded parts behind a linear map, in several operations."""

    def __init__(self) -> None:
        super().__init__()
        self.V = nn.Parameter(torch.randn(5, 5, generator=seeded(3), dtype=torch.float64) * 0.1)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        inner = torch.sigmoid(z) + nn.functional.hardtanh(z * 3.0, -0.5, 0.25)
        bent = torch.maximum(torch.relu(inner @ self.V), x * 0.1)
        return torch.cat([bent[:, :2], torch.erf(z[:, 2:]) * 0.3], dim=1) * 0.5 + x


def test_t11_absorbing_boxes_follow_the_graph() -> None:
    layer, x = Mixed(), torch.randn(3, 5, generator=seeded(9), dtype=torch.float64)
    z = torch.zeros_like(x)
    box = absorbing_box(problem_of(layer, z, x))
    assert box is not None
    for scale in (0.1, 1.0, 100.0):
        y = scale * torch.randn(3, 5, generator=seeded(11), dtype=torch.float64)
        with torch.no_grad():
            for _ in range(box.sweeps):
                y = layer(y, x)
        assert bool(((y >= box.lower[0]) & (y <= box.upper[0])).all())
    certificate = proven(layer, z, x)
    assert certificate.verdict is Verdict.CERTIFIED
    report = check(certificate, layer, z, x)
    assert report.accepted, report.reasons


def test_t11_absorbing_names_what_has_no_bound() -> None:
    layer, z = Layer(torch.eye(2, dtype=torch.float64) * 1.5, "relu"), torch.ones(1, 2, dtype=torch.float64)
    certificate = proven(layer, z, z)
    assert certificate.verdict is not Verdict.CERTIFIED
    assert any("without a bound" in line for line in (certificate.reason, *certificate.attempts))


# ------------------------------------------------------------------------------------------------------ domains

_PARTIAL: dict[str, Callable[[Tensor], Tensor]] = {
    "quotient": lambda z: 0.1 / (z + 3),
    "log": lambda z: torch.log(z + 3),
    "log1p": lambda z: torch.log1p(z),
    "sqrt": lambda z: torch.sqrt(z + 3),
    "rsqrt": lambda z: torch.rsqrt(z + 3),
    "reciprocal": lambda z: torch.reciprocal(z + 3),
    "power": lambda z: (z + 3) ** -1,
    "root": lambda z: (z + 3) ** 1.5,
    "bounded, not enough": lambda z: torch.log(torch.tanh(z) + 0.5),
    "bounded, through 0": lambda z: 0.1 / torch.tanh(z),
    "masked": lambda z: torch.sqrt(torch.sigmoid(z) - 0.5),
}


class Partial(nn.Module):
    """tanh of something that is not defined for every state."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.inner = _PARTIAL[name]

    def forward(self, z: Tensor) -> Tensor:
        return 0.25 * torch.tanh(self.inner(z))


@pytest.mark.parametrize("name", sorted(_PARTIAL))
def test_t11_absorbing_a_map_that_is_not_defined_everywhere_has_no_box(name: str) -> None:
    """tanh is bounded, whatever its argument, but there has to be one."""
    layer, z = Partial(name), torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(UnsupportedOperationError, match="not defined for every state"):
        absorbing_box(problem_of(layer, z))
    certificate = certify(layer, z, theorem="absorbing")
    assert certificate.verdict is not Verdict.CERTIFIED
    graph = trace(layer, z).concrete(z)
    with working_precision(), pytest.raises(Rejected):
        swept(Subject(graph, frozenset(), ()), Values(graph, None, frozenset()), 1)


@pytest.mark.parametrize("name", ["log", "sqrt", "reciprocal", "power", "quotient"])
def test_t11_absorbing_a_bounded_operand_inside_the_domain_is_fine(name: str) -> None:
    """`sigmoid(z) + 3` lies in [3, 4]."""

    class Inside(Partial):
        def forward(self, z: Tensor) -> Tensor:
            return 0.25 * torch.tanh(self.inner(torch.sigmoid(z)))

    z = torch.ones(1, 2, dtype=torch.float64)
    box = absorbing_box(problem_of(Inside(name), z))
    assert box is not None
    for scale in (1.0, -1e6):
        z = torch.full_like(z, scale)
        for _ in range(box.sweeps):
            z = Inside(name)(z)
        assert bool(((z >= box.lower[0]) & (z <= box.upper[0])).all())


# ------------------------------------------------------------------------------------------------- certificates


def _with_digest(document: dict[str, Any]) -> dict[str, Any]:
    from deqops.verify.checker._document import _digest

    return {**document, "digest": _digest(document)}


@pytest.fixture(scope="module")
def given_certificate() -> tuple[Layer, Tensor, Tensor, Certificate]:
    weight, bias = saturated(3, 1.5, 4.0, 5)
    layer, z = Layer(weight, "tanh"), torch.zeros(1, 3, dtype=torch.float64)
    certificate = proven(layer, z, bias[None])
    assert certificate.verdict is Verdict.CERTIFIED
    return layer, z, bias[None], certificate


def _spoilt(document: dict[str, Any], what: str, certificate: Certificate) -> dict[str, Any]:
    spoilt = copy.deepcopy(document)
    evidence = certificate.evidence
    assert evidence is not None
    if what == "bound":
        spoilt["evidence"]["bound"] = (evidence.numbers["bound"] * (1 - 1e-6)).hex()
    elif what in ("no sweeps", "too many sweeps"):
        spoilt["evidence"]["sweeps"] = 0 if what == "no sweeps" else 10**6
    elif what == "too few sweeps":
        spoilt["evidence"]["sweeps"] = 1
    elif what == "rate":
        spoilt["rate"] = (0.5).hex()
    elif what == "damping":
        spoilt["claim"]["iteration"]["damping"] = (0.5).hex()
    return _with_digest(spoilt)


@pytest.mark.parametrize("what", ["bound", "no sweeps", "too few sweeps", "too many sweeps", "rate", "damping"])
def test_spoilt_certificates_are_rejected(
    what: str, given_certificate: tuple[Layer, Tensor, Tensor, Certificate]
) -> None:
    layer, z, x, certificate = given_certificate
    document = certificate.document()
    assert_accepted(document, layer, z, x)
    assert not check(_spoilt(document, what, certificate), layer, z, x).accepted


@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_smaller_box_is_rejected(side: str, given_certificate: tuple[Layer, Tensor, Tensor, Certificate]) -> None:
    import dataclasses

    layer, z, x, certificate = given_certificate
    evidence = certificate.evidence
    assert evidence is not None
    sign = 1 if side == "lower" else -1
    shrunk = {**evidence.tensors, side: (evidence.tensors[side][0] + sign * 1e-6,)}
    spoilt = dataclasses.replace(certificate, evidence=dataclasses.replace(evidence, tensors=shrunk))
    report = check(spoilt.document(), layer, z, x)
    assert not report.accepted
    assert "does not hold every state" in report.reasons[0]


def test_another_input_is_rejected(given_certificate: tuple[Layer, Tensor, Tensor, Certificate]) -> None:
    layer, z, x, certificate = given_certificate
    assert not check(certificate, layer, z, x * 0.5).accepted
    with pytest.raises(InputError, match="another value"):
        certificate.error_bound(layer, z, x * 0.5)


def test_the_file_gives_the_same_certificate(
    tmp_path: Path, given_certificate: tuple[Layer, Tensor, Tensor, Certificate]
) -> None:
    layer, z, x, certificate = given_certificate
    certificate.save(tmp_path / "c.json")
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.document() == certificate.document()
    assert "box" in loaded.explain()
    assert_accepted(tmp_path / "c.json", layer, z, x)
