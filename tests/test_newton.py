"""T6 `newton_kantorovich`: one equilibrium in a ball where G expands, and the error of any state in it.

The truth is exact: ReLU's equilibria by trying every set of active units in rationals; tanh's by Krawczyk's operator
in ball arithmetic around a root that mpmath found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath
import pytest
import torch
from cli_cases import edit_certificate
from exact import ball, relu_equilibria, seeded
from flint import arb, arb_mat
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from zoo import cases, randn

from deqops import InputError, ModelFileError
from deqops.graph import trace
from deqops.testing import Layer, assert_accepted
from deqops.verify import Ball, Certificate, Norm, UniqueEquilibrium, Verdict, certify, check
from deqops.verify._gains import apply_magnitude
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._problem import Problem

ZOO = cases()


def normal(size: int, norm: float, seed: int) -> Tensor:
    weight = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    return weight * (norm / torch.linalg.matrix_norm(weight, 2))


def rotation(angle: float, factor: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return factor * torch.tensor([[c, -s], [s, c]], dtype=torch.float64)


def located(layer: nn.Module, center: Tensor, x: Tensor, radius: float, norm: Any = "auto") -> Certificate:
    return certify(layer, center, x, theorem="newton_kantorovich", region=Ball(center, radius), norm=norm)


def exact_norm(gaps: list[Fraction], certificate: Certificate) -> Any:
    """The norm of a vector in ball arithmetic."""
    assert certificate.norm is not None
    weights = certificate.norm.weights
    scales = (
        [Fraction(w) for w in weights[0].reshape(-1).tolist()] if weights is not None else [Fraction(1)] * len(gaps)
    )
    parts = [abs(g) * w for g, w in zip(gaps, scales, strict=True)]
    values = [arb(p.numerator) / p.denominator for p in parts]
    if certificate.norm.order == "linf":
        return arb(max(parts).numerator) / max(parts).denominator
    if certificate.norm.order == "l1":
        return sum(values, arb(0))
    return sum((v * v for v in values), arb(0)).sqrt()


# ------------------------------------------------------------------------------------------ the interval Jacobian


@pytest.mark.parametrize("name", list(ZOO))
@pytest.mark.parametrize("radius", [1e-9, 0.1])
def test_the_interval_jacobian_holds_derivatives_with_their_signs(name: str, radius: float) -> None:
    """Lemma `slopes`: the derivatives at points of the ball, entry by entry; narrow on a small ball."""
    module, z, inputs, batch_dims = ZOO[name]
    problem = Problem(trace(module, z, *inputs, batch_dims=batch_dims), z, inputs)
    J = interval_jacobian(local_jacobian(problem, Ball(z, radius), Norm("linf")), batch_dims)
    problems = z.shape[0] if batch_dims else 1
    for share in (0.0, -0.9, 0.9):
        point = z + share * radius
        full = torch.autograd.functional.jacobian(lambda y: module(y, *inputs), point).reshape(z.numel(), z.numel())
        size = z.numel() // problems
        blocks = torch.stack([full[p * size : (p + 1) * size, p * size : (p + 1) * size] for p in range(problems)])
        assert J.mid.shape == blocks.shape
        assert bool(((blocks - J.mid).abs() <= J.rad + 1e-12).all())
    if radius < 1e-6 and name not in ("leaky", "left matmul"):
        assert float(J.rad.max()) < 1e-6


@pytest.mark.parametrize("name", list(ZOO))
def test_the_interval_jacobian_agrees_with_the_bound_of_its_entries(name: str) -> None:
    module, z, inputs, batch_dims = ZOO[name]
    problem = Problem(trace(module, z, *inputs, batch_dims=batch_dims), z, inputs)
    expression = local_jacobian(problem, Ball(z, 0.2), Norm("linf"))
    sums = interval_jacobian(expression, batch_dims).magnitude().sum(dim=2).reshape(-1)
    bound = torch.cat([v.reshape(-1) for v in apply_magnitude(expression, [torch.ones_like(z)])])
    assert bool((sums <= bound * (1 + 1e-12)).all())


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.01, 1.0))
def test_differences_lie_in_the_interval_jacobian(seed: int, size: int, radius: float) -> None:
    """Lemma `slopes` across kinks: `G(y) - G(z)` in `[M] (y - z)`, in rational arithmetic."""
    weight, center = normal(size, 2.0, seed), torch.randn(1, size, generator=seeded(seed + 1), dtype=torch.float64)
    layer, x = Layer(weight, "relu"), torch.zeros(1, size, dtype=torch.float64)
    problem = Problem(trace(layer, center, x, batch_dims=1), center, (x,))
    J = interval_jacobian(local_jacobian(problem, Ball(center, radius), Norm("linf")), 1)
    shifts = radius * (2 * torch.rand(2, size, generator=seeded(seed + 2), dtype=torch.float64) - 1) * 0.999
    y, z = ([Fraction(v) for v in (center[0] + shift).tolist()] for shift in shifts)

    def moved(state: list[Fraction]) -> list[Fraction]:
        rows = [[Fraction(v) for v in row] for row in weight.tolist()]
        return [max(sum((w * v for w, v in zip(row, state, strict=True)), Fraction()), Fraction()) for row in rows]

    gaps = [a - b for a, b in zip(y, z, strict=True)]
    for i, (a, b) in enumerate(zip(moved(y), moved(z), strict=True)):
        middle = sum((Fraction(m) * g for m, g in zip(J.mid[0, i].tolist(), gaps, strict=True)), Fraction())
        spread = sum((Fraction(r) * abs(g) for r, g in zip(J.rad[0, i].tolist(), gaps, strict=True)), Fraction())
        assert abs(a - b - middle) <= spread


# -------------------------------------------------------------------------------------------------- the theorem


@given(
    st.integers(0, 10**6),
    st.integers(1, 4),
    st.sampled_from([0.5, 1.5, 3.0]),
    st.sampled_from([1e-6, 0.1, 1.0]),
    st.sampled_from(["l1", "l2", "linf", "weighted_linf"]),
)
def test_exactly_one_equilibrium_in_the_ball(seed: int, size: int, norm: float, radius: float, order: str) -> None:
    """T6 for ReLU, against all equilibria in rational arithmetic; the error bound holds for a state in the ball."""
    weight, x = normal(size, norm, seed), torch.randn(1, size, generator=seeded(seed + 1), dtype=torch.float64)
    equilibria, layer = relu_equilibria(weight, x[0]), Layer(weight, "relu")
    assume(equilibria)
    center = torch.tensor([[float(v) for v in equilibria[seed % len(equilibria)]]], dtype=torch.float64)
    certificate = located(layer, center, x, radius, order)
    assume(certificate.verdict is Verdict.CERTIFIED)
    assert isinstance(certificate.claim, UniqueEquilibrium)
    middle = [Fraction(v) for v in center[0].tolist()]
    gaps = [[a - b for a, b in zip(e, middle, strict=True)] for e in equilibria]
    inside = [e for e, gap in zip(equilibria, gaps, strict=True) if exact_norm(gap, certificate) <= ball(radius)]
    assert len(inside) == 1
    y = center + radius / (4 * size) * torch.rand(1, size, generator=seeded(seed + 2), dtype=torch.float64)
    bound = certificate.error_bound(layer, y, x)
    error = exact_norm([Fraction(v) - e for v, e in zip(y[0].tolist(), inside[0], strict=True)], certificate)
    if math.isfinite(float(bound.value[0])):
        assert error <= ball(float(bound.value[0]))
    assert_accepted(certificate, layer, center, x)


@pytest.mark.parametrize("norm", [2.0, 3.0])
def test_most_isolated_equilibria_of_expanding_layers_are_found(norm: float) -> None:
    """Not vacuous: an equilibrium away from kinks where I - J is regular has a ball."""
    found = tried = 0
    for seed in range(24):
        weight, x = normal(4, norm, seed), torch.randn(1, 4, generator=seeded(seed + 100), dtype=torch.float64)
        for y in relu_equilibria(weight, x[0]):
            center = torch.tensor([[float(v) for v in y]], dtype=torch.float64)
            tried += 1
            found += located(Layer(weight, "relu"), center, x, 1e-5).verdict is Verdict.CERTIFIED
    assert tried >= 12
    assert found >= tried - 1


def krawczyk(weight: Tensor, x: Tensor, point: list[Any], radius: float) -> bool:
    """Whether Krawczyk's operator maps the box around a point into its interior: z = tanh(W z + x) has a root there."""
    size = len(point)
    W = arb_mat(size, size, [ball(v) for v in weight.reshape(-1).tolist()])
    c = [arb(str(p)).mid() for p in point]
    box = [arb(p, radius) for p in c]

    def before(z: list[arb]) -> list[arb]:
        image = W * arb_mat(size, 1, z)
        return [image[i, 0] + ball(float(x[i])) for i in range(size)]

    def derivative(z: list[arb]) -> arb_mat:
        slopes = [1 - v.tanh() ** 2 for v in before(z)]
        return arb_mat(size, size, [(i == j) - slopes[i] * W[i, j] for i in range(size) for j in range(size)])

    eye = arb_mat(size, size, [int(i == j) for i in range(size) for j in range(size)])
    A = derivative(c).inv()
    A = arb_mat(size, size, [a.mid() for a in A.entries()])
    F = arb_mat(size, 1, [p - v.tanh() for p, v in zip(c, before(c), strict=True)])
    shifts = arb_mat(size, 1, [b - p for b, p in zip(box, c, strict=True)])
    K = (eye - A * derivative(box)) * shifts - A * F
    return all(bool(abs(K[i, 0]) < radius) for i in range(size))


@pytest.mark.parametrize("angle", [0.5, 1.5, 2.5])
@pytest.mark.parametrize("factor", [1.5, 3.0])
def test_a_rotation_that_expands(angle: float, factor: float) -> None:
    """tanh of 1.5 times a rotation: no norm contracts (its spectral radius is 1.5), yet one equilibrium is near 0."""
    weight, x = rotation(angle, factor), torch.tensor([[0.02, -0.01]], dtype=torch.float64)
    layer, zero = Layer(weight, "tanh"), torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(layer, zero, x)
    certificate = certificate if certificate.theorem == "newton_kantorovich" else located(layer, zero, x, 0.1)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is None
    mpmath.mp.dps = 60
    W, b = mpmath.matrix(weight.tolist()), mpmath.matrix(x[0].tolist())
    region = certificate.region
    assert isinstance(region, Ball)
    start = region.leaves[0][0].tolist()
    root = mpmath.findroot(
        lambda *z: [z[i] - mpmath.tanh(W[i, 0] * z[0] + W[i, 1] * z[1] + b[i]) for i in range(2)], start
    )
    truth = [root[i] for i in range(2)]
    assert krawczyk(weight, x[0], truth, 1e-20)
    gaps = [t - mpmath.mpf(s) for t, s in zip(truth, start, strict=True)]
    assert mpmath.norm(mpmath.matrix(gaps), 2) <= region.radius
    y = region.leaves[0] + 0.3 * region.radius * torch.tensor([[1.0, -0.7]], dtype=torch.float64)
    bound = certificate.error_bound(layer, y, x)
    error = mpmath.norm(mpmath.matrix([mpmath.mpf(v) - t for v, t in zip(y[0].tolist(), truth, strict=True)]), 2)
    assert error <= mpmath.mpf(float(bound.l2[0]))
    assert float(bound.l2[0]) <= 200 * error
    assert_accepted(certificate, layer, zero, x)


def test_three_equilibria_are_told_apart() -> None:
    """z = tanh(2 z): a ball around each of the three, none around two."""
    layer, x = Layer(torch.tensor([[2.0]]), "tanh"), torch.zeros(1, 1)
    outer = 0.9575040240772687
    for place in (-outer, 0.0, outer):
        assert located(layer, torch.full((1, 1), place, dtype=torch.float32), x, 0.2).verdict is Verdict.CERTIFIED
    for radius in (0.96, 1.5, 10.0):
        several = located(layer, torch.zeros(1, 1), x, radius)
        assert several.verdict is Verdict.REFUTED
        assert_accepted(several, layer, torch.zeros(1, 1), x)
    assert located(layer, torch.full((1, 1), 0.5), x, 0.1).verdict is Verdict.UNKNOWN  # none in it


@pytest.mark.parametrize(
    ("gain", "expected"),
    [(-3.0, Verdict.CERTIFIED), (0.9, Verdict.CERTIFIED), (1.0, Verdict.UNKNOWN), (2.0, Verdict.UNKNOWN)],
)
def test_a_kink_inside_the_ball(gain: float, expected: Verdict) -> None:
    """relu(gain z) at 0: slopes [0, gain], so I - M is regular for all of them only where gain < 1."""
    layer, x = Layer(torch.tensor([[gain]]), "relu"), torch.zeros(1, 1)
    certificate = located(layer, torch.zeros(1, 1), x, 0.5)
    assert certificate.verdict is expected
    if expected is Verdict.CERTIFIED:
        assert_accepted(certificate, layer, torch.zeros(1, 1), x)


@pytest.mark.parametrize(("radius", "expected"), [(0.6, Verdict.UNKNOWN), (1.625, Verdict.CERTIFIED)])
def test_t6_a_ball_without_the_equilibrium_is_not_certified(radius: float, expected: Verdict) -> None:
    """`0.8 relu(z) + 0.3` has its equilibrium at 1.5; around 0 it is Y = 0.5 and Z = 2/3, so that Y alone fits in."""
    zero = torch.zeros(1, 1, dtype=torch.float64)
    options = {"theorem": "newton_kantorovich", "norm": "linf", "region": Ball(zero, radius)}
    assert certify(lambda z: 0.8 * z.relu() + 0.3, zero, **options).verdict is expected


def test_a_trained_size_is_certified_around_its_computed_equilibrium() -> None:
    weight, x = normal(30, 3.0, 0).float(), torch.randn(2, 30, generator=seeded(0))
    layer, zero = Layer(weight, "tanh"), torch.zeros(2, 30)
    certificate = certify(layer, zero, x)
    assert certificate.theorem == "newton_kantorovich"
    assert certificate.claim.describe().startswith("G has exactly one equilibrium in a ball")
    assert not certificate.inputs[0].free
    assert certificate.factor is not None
    assert certificate.factor < 1000
    assert_accepted(certificate, layer, zero, x)
    region = certificate.region
    assert isinstance(region, Ball)
    error = certificate.error_bound(layer, region.leaves[0].float(), x)
    assert float(error.l2.max()) < 1e-4


def test_auto_on_a_ball_falls_back_to_it() -> None:
    layer, zero = Layer(rotation(1.5, 1.5), "tanh"), torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(layer, zero, zero, region=Ball(zero, 0.1))
    assert certificate.theorem == "newton_kantorovich"
    assert any("local_picard" in attempt for attempt in certificate.attempts)
    contraction = certify(layer, zero, zero, region=Ball(zero, 0.1), norm="l2")
    assert contraction.verdict is not Verdict.CERTIFIED


def test_a_state_of_two_leaves_and_one_problem() -> None:
    class Pair(nn.Module):
        def forward(self, state: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
            a, b = state
            return torch.tanh(-2 * a + b.sum()) + x[:2], torch.sigmoid(a[:1] * 1.5) - b - 0.5

    state, x = tuple(torch.zeros(n, dtype=torch.float64) for n in (2, 1)), torch.zeros(2, dtype=torch.float64)
    for norm in ("l2", "linf", "l1", "weighted_linf", "weighted_l2", "weighted_l1"):
        certificate = certify(
            Pair(), state, x, theorem="newton_kantorovich", region=Ball(state, 1e-2), norm=norm, batch_dims=0
        )
        assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
        report = check(certificate, Pair(), state, x)
        assert report.accepted, report.reasons


@pytest.mark.parametrize("name", [name for name in ZOO if name != "gcn"])
def test_the_zoo_is_checked(name: str) -> None:
    """Certifier and checker agree on every rule's signs."""
    module, z, inputs, batch_dims = ZOO[name]
    point = z
    for _ in range(300):
        point = 0.7 * point + 0.3 * module(point, *inputs).detach()
    certificate = certify(
        module, point, *inputs, theorem="newton_kantorovich", region=Ball(point, 1e-3), batch_dims=batch_dims
    )
    if name != "left matmul":  # whose iteration does not settle
        assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
    if certificate.verdict is Verdict.CERTIFIED:
        report = check(certificate, module, point, *inputs)
        assert report.accepted, report.reasons


# --------------------------------------------------------------------------------------- what is refused, and files


def test_sizes_that_are_too_large_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, zero = Layer(rotation(1.5, 1.5), "tanh"), torch.zeros(1, 2, dtype=torch.float64)
    certificate = located(layer, zero, zero, 0.1)
    monkeypatch.setattr("deqops.verify.checker._derivative.LARGEST_ORDER", 1)
    report = check(certificate, layer, zero, zero)
    assert not report.accepted
    assert "beyond the checker's means" in report.reasons[0]
    monkeypatch.setattr("deqops.verify._interval_jacobian.LARGEST_ENTRIES", 3)
    assert "too many" in located(layer, zero, zero, 0.1).reason
    monkeypatch.setattr("deqops.verify._theorems._newton_kantorovich.LARGEST", 1)
    assert "too many" in located(layer, zero, zero, 0.1).reason


def test_arguments_that_do_not_fit() -> None:
    layer, zero = Layer(-torch.eye(3), "tanh"), torch.zeros(1, 3)
    with pytest.raises(InputError, match="needs a Ball"):
        certify(layer, zero, zero, theorem="newton_kantorovich")
    with pytest.raises(InputError, match="centre has shape"):
        certify(layer, zero, zero, theorem="newton_kantorovich", region=Ball(torch.zeros(1, 2), 1.0))


def test_an_operation_without_slopes_is_unknown_by_name() -> None:
    class Jump(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.where(z > 0, z, x)

    zero = torch.zeros(1, 3)
    certificate = certify(Jump(), zero, zero, theorem="newton_kantorovich", region=Ball(zero, 1.0))
    assert certificate.verdict is Verdict.UNKNOWN
    assert "newton_kantorovich" in " ".join(certificate.attempts)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Layer, Tensor, Tensor]:
    folder, layer = tmp_path_factory.mktemp("newton"), Layer(normal(3, 2.5, 0), "tanh")
    zero, x = torch.zeros(2, 3, dtype=torch.float64), randn(2, 3, seed=5)
    certificate = certify(layer, zero, x, norm="auto")
    if certificate.theorem != "newton_kantorovich":
        region = certificate.region
        assert isinstance(region, Ball)
        certificate = certify(layer, zero, x, theorem="newton_kantorovich", region=Ball(region.center, 0.05))
    assert certificate.verdict is Verdict.CERTIFIED
    certificate.save(folder / "c.json")
    return folder / "c.json", layer, zero, x


def test_the_file_gives_the_same_certificate(saved: tuple[Path, Layer, Tensor, Tensor]) -> None:
    path, layer, state, x = saved
    loaded = Certificate.load(path)
    assert Certificate.from_document(loaded.document()).document() == loaded.document()
    assert_accepted(path, layer, state, x)
    with pytest.raises(InputError, match="proves no rate"):
        loaded.iterations(1e-3, 1.0)


def _number(name: str, change: Callable[[float], float]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda d: {**d["evidence"], name: change(float.fromhex(d["evidence"][name])).hex()}


def _region(d: dict[str, Any], factor: float) -> dict[str, Any]:
    return {**d["region"], "radius": (factor * float.fromhex(d["region"]["radius"])).hex()}


@pytest.mark.parametrize(
    "change",
    [
        lambda d: {"evidence": _number("defect", lambda v: 1e-9 * v)(d), "hypotheses": []},
        lambda d: {"evidence": _number("contraction", lambda v: 0.999 * v)(d), "hypotheses": []},
        lambda d: {"evidence": _number("contraction", lambda v: -v)(d), "hypotheses": []},
        lambda d: {"evidence": _number("contraction", lambda v: 1.0)(d), "hypotheses": []},
        lambda d: {"evidence": _number("factor", lambda v: 0.999 * v)(d)},
        lambda d: {"evidence": _number("defect", lambda v: 2 * v)(d)},  # no longer the stated hypothesis
        lambda d: {"region": _region(d, 8.0), "claim": {**d["claim"], "region": _region(d, 8.0)}, "hypotheses": []},
        lambda d: {"region": _region(d, 1e-18), "claim": {**d["claim"], "region": _region(d, 1e-18)}, "hypotheses": []},
        lambda d: {"region": {"kind": "global"}, "claim": {**d["claim"], "region": {"kind": "global"}}},
        lambda d: {"evidence": {**d["evidence"], "inverse": d["region"]["center"]}},
        lambda d: {"evidence": {**d["evidence"], "inverse": []}},
        lambda d: {"evidence": {"kind": "local", "bound": "0x1p-1", "residual": "0x0.0p+0"}},
        lambda d: {"rate": "0x1p-1"},
        lambda d: {"theorem": "local_picard"},
        lambda d: {"verdict": "refuted"},
        lambda d: {"claim": {"kind": "contraction", "norm": d["norm"], "region": d["region"]}},
        lambda d: {
            "claim": {
                "kind": "converges",
                "iteration": {"kind": "picard", "damping": "0x1p+0"},
                "region": d["region"],
            }
        },
    ],
)
def test_tampered_certificates_are_rejected(
    saved: tuple[Path, Layer, Tensor, Tensor], change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    path, layer, state, x = saved
    document = json.loads(path.read_text())
    report = check(edit_certificate(path, **change(document)), layer, state, x)
    assert not report.accepted
    assert report.reasons


def _with_witness(certificate: Certificate, **tensors: Tensor) -> dict[str, Any]:
    """The document with another inverse or centre, numbers as they were."""
    from dataclasses import replace

    evidence, region = certificate.evidence, certificate.region
    assert evidence is not None
    assert isinstance(region, Ball)
    if "inverse" in tensors:
        evidence = replace(evidence, tensors={"inverse": (tensors["inverse"],)})
    if "center" in tensors:
        region = Ball(tensors["center"], region.radius, region.norm)
    return replace(certificate, evidence=evidence, region=region, claim=UniqueEquilibrium(region)).document()


def test_other_inverses_and_centres_are_rejected(saved: tuple[Path, Layer, Tensor, Tensor]) -> None:
    path, layer, state, x = saved
    certificate = Certificate.load(path)
    assert certificate.evidence is not None
    assert isinstance(certificate.region, Ball)
    inverse, center = certificate.evidence.tensors["inverse"][0], certificate.region.leaves[0]
    assert check(_with_witness(certificate, inverse=inverse.clone()), layer, state, x).accepted
    for other in (torch.zeros_like(inverse), -inverse, 1.01 * inverse, inverse.flip(0), torch.eye(3).expand(2, 3, 3)):
        assert not check(_with_witness(certificate, inverse=other.double()), layer, state, x).accepted
    for moved in (center + 1e-3, -center, center.flip(0)):
        assert not check(_with_witness(certificate, center=moved), layer, state, x).accepted


def test_a_file_with_inverses_of_another_size_does_not_load(
    saved: tuple[Path, Layer, Tensor, Tensor], tmp_path: Path
) -> None:
    certificate = Certificate.load(saved[0])
    document = _with_witness(certificate, inverse=torch.eye(3, dtype=torch.float64)[None])
    with pytest.raises(ModelFileError, match="matrices"):
        Certificate.from_document(document)


def test_a_large_inverse_lies_beside_the_file(tmp_path: Path) -> None:
    size = 380
    layer, zero = Layer(-2 * torch.eye(size), "relu"), torch.zeros(1, size)
    certificate = located(layer, zero, zero, 1.0, "linf")
    assert certificate.verdict is Verdict.CERTIFIED
    certificate.save(tmp_path / "c.json")
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    loaded = Certificate.load(tmp_path / "c.json")
    assert loaded.factor == certificate.factor
    assert loaded.evidence is not None
    assert loaded.evidence.tensors["inverse"][0].shape == (1, size, size)
