"""T5 `monotone` (forms c and d): one equilibrium of s(W z + c) where G need not contract, and its error bound.

The truth is exact: for ReLU every equilibrium is found by trying each set of active units in rational arithmetic.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_cases import edit_certificate
from exact import is_positive_semidefinite, rational, rational_matrix, relu_equilibria, seeded
from flint import fmpq, fmpq_mat
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from deqops import Anderson, InputError, OperatorEquation, Tolerance, export, solve
from deqops._tensorfile import write_tensors
from deqops.cli import main
from deqops.testing import Layer, assert_accepted
from deqops.verify import Ball, Certificate, Norm, Verdict, certify, check
from deqops.verify._definite import lowest_eigenvalue_bound
from deqops.verify._midrad import MidRad


def monotone_weight(size: int, norm: float, seed: int, mu: float = 0.1) -> Tensor:
    """`(1 - mu) I - A^T A + B - B^T`, about scaled to an l2 norm, as float32."""
    generator = seeded(seed)
    a, b = (torch.randn(size, size, generator=generator, dtype=torch.float64) for _ in range(2))
    part = -0.01 * a.T @ a + b - b.T
    return ((1 - mu) * torch.eye(size) + part * (norm / torch.linalg.matrix_norm(part, 2))).float()


def arguments(size: int, problems: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    return torch.zeros(problems, size), torch.randn(problems, size, generator=seeded(seed))


# ----------------------------------------------------------------------------------------------- the eigenvalue


@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([1.0, 1e-8, 1e8, 2.0**-400]))
def test_the_eigenvalue_bound_is_below_the_truth_and_close(seed: int, size: int, scale: float) -> None:
    a = torch.randn(size, size, generator=seeded(seed), dtype=torch.float64)
    mid = (a + a.T) * scale
    bound = lowest_eigenvalue_bound(MidRad.exact(mid))
    exact = rational_matrix(mid)

    def definite_above(value: float) -> bool:
        shift = fmpq_mat(size, size, [rational(value) if i == j else fmpq(0) for i in range(size) for j in range(size)])
        return is_positive_semidefinite(exact - shift)

    assert definite_above(bound)
    assert not definite_above(bound + 1e-12 * float(mid.abs().sum()))


def test_the_eigenvalue_bound_pays_for_radii_and_refuses_what_is_not_finite() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    around = MidRad(eye, torch.full((3, 3), 0.1, dtype=torch.float64))
    assert 0.7 - 1e-9 <= lowest_eigenvalue_bound(around) <= 0.7
    for bad in (math.nan, math.inf):
        spoilt = eye.clone()
        spoilt[1, 1] = bad
        assert lowest_eigenvalue_bound(MidRad.exact(spoilt)) == -math.inf
    with pytest.raises(InputError, match="square matrix"):
        lowest_eigenvalue_bound(MidRad.exact(torch.zeros(2, 3, dtype=torch.float64)))


def test_the_eigenvalue_bound_of_a_singular_matrix_is_not_positive() -> None:
    for matrix in (torch.zeros(4, 4), torch.ones(4, 4), torch.diag(torch.tensor([1.0, 1.0, 0.0]))):
        bound = lowest_eigenvalue_bound(MidRad.exact(matrix.double()))
        assert -1e-12 <= bound <= 0


# -------------------------------------------------------------------------------------------------- the theorem


@given(st.integers(0, 10**6), st.integers(1, 4), st.sampled_from([0.5, 1.5, 4.0]))
def test_monotone_one_equilibrium_within_the_error_bound(seed: int, size: int, norm: float) -> None:
    weight = monotone_weight(size, norm, seed)
    weight = weight + 0.3 * torch.randn(size, size, generator=seeded(seed + 1))
    state, x = arguments(size, 1, seed)
    certificate = certify(Layer(weight, "relu"), state, x, theorem="monotone")
    equilibria = relu_equilibria(weight, x[0])
    assume(certificate.verdict is Verdict.CERTIFIED)
    assert len(equilibria) == 1
    y = torch.randn(1, size, generator=seeded(seed + 2))
    bound = certificate.error_bound(Layer(weight, "relu"), y, x)
    square = sum(
        ((Fraction(v) - e) ** 2 for v, e in zip(y[0].double().tolist(), equilibria[0], strict=True)), Fraction()
    )
    assert square <= Fraction(float(bound.l2[0])) ** 2
    assert_accepted(certificate, Layer(weight, "relu"), state, x)


def test_a_layer_with_two_equilibria_is_not_certified() -> None:
    """T1's trap, W = [[1.5, -2], [1, -1.2]]: relu(W z + (-0.5, -1)) has two equilibria."""
    weight, x = torch.tensor([[1.5, -2.0], [1.0, -1.2]]), torch.tensor([[-0.5, -1.0]])
    assert len(relu_equilibria(weight, x[0])) == 2
    for norm in ("auto", "l2", "weighted_l2"):
        certificate = certify(Layer(weight, "relu"), torch.zeros(1, 2), x, theorem="monotone", norm=norm)
        assert certificate.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_the_tie_is_unknown(factor: float) -> None:
    """W = I: relu(z + c) has none or many; mu = 0 is no proof."""
    certificate = certify(Layer(factor * torch.eye(3), "relu"), *arguments(3), theorem="monotone")
    assert certificate.verdict is Verdict.UNKNOWN
    assert "mu > 0 not shown" in certificate.reason


@pytest.mark.parametrize("size", [20, 100])
@pytest.mark.parametrize("activation", [torch.relu, torch.tanh])
def test_layers_of_norm_27_are_certified_and_their_contraction_refuted(size: int, activation: Any) -> None:
    layer, (state, x) = Layer(monotone_weight(size, 27.0, size), activation), arguments(size)
    certificate = certify(layer, state, x)
    assert certificate.theorem == "monotone"
    assert certificate.claim.describe() == "G has exactly one equilibrium everywhere"
    assert certificate.monotonicity is not None
    assert 0.0999 < certificate.monotonicity < 0.2
    assert certificate.inputs[0].free
    assert_accepted(certificate, layer, state, x)
    assert certify(layer, state, x, norm="l2").verdict is Verdict.REFUTED


def test_mu_is_tight() -> None:
    weight = monotone_weight(6, 5.0, 3)
    certificate = certify(Layer(weight, "relu"), *arguments(6), theorem="monotone", norm="l2")
    exact = rational_matrix(weight.double())
    for shift, expected in ((0.0, True), (1e-8, False)):
        mu = rational(float(certificate.monotonicity or 0.0) + shift)
        eye = fmpq_mat(6, 6, [1 - mu if i == j else fmpq(0) for i in range(6) for j in range(6)])
        assert is_positive_semidefinite(eye - (exact + exact.transpose()) / 2) is expected


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_weights_are_found_and_then_proven(spread: float) -> None:
    d = torch.exp(spread * torch.randn(12, generator=seeded(1)))
    weight = monotone_weight(12, 3.0, 2, 0.3) * d[None, :] / d[:, None]
    layer, (state, x) = Layer(weight, "relu"), arguments(12)
    assert certify(layer, state, x, theorem="monotone", norm="l2").verdict is Verdict.UNKNOWN
    certificate = certify(layer, state, x, theorem="monotone")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.norm is not None
    assert certificate.norm.describe() == "weighted l2"
    assert_accepted(certificate, layer, state, x)


@pytest.mark.parametrize(
    ("activation", "gain", "expected"),
    [
        (nn.functional.gelu, -2.0, Verdict.CERTIFIED),
        (nn.functional.gelu, 0.95, Verdict.UNKNOWN),  # its slopes reach 1.129, 0.95 of them 1.07
        (nn.functional.silu, -2.0, Verdict.CERTIFIED),
        (nn.functional.leaky_relu, -5.0, Verdict.CERTIFIED),
        (nn.functional.leaky_relu, -2000.0, Verdict.CERTIFIED),
        (torch.abs, -0.5, Verdict.CERTIFIED),
        (torch.abs, -1.5, Verdict.UNKNOWN),  # |1.5 z + c| = z: none or two
        (torch.sin, -1.5, Verdict.UNKNOWN),
        (torch.sigmoid, 3.9, Verdict.CERTIFIED),
        (torch.sigmoid, 4.1, Verdict.UNKNOWN),
        (nn.functional.softplus, 0.99, Verdict.CERTIFIED),
        (torch.exp, -1.0, Verdict.UNKNOWN),
    ],
)
def test_slopes_that_leave_the_unit_interval(activation: Any, gain: float, expected: Verdict) -> None:
    layer, (state, x) = Layer(gain * torch.eye(2), activation), arguments(2)
    certificate = certify(layer, state, x, theorem="monotone")
    assert certificate.verdict is expected
    if expected is Verdict.CERTIFIED:
        assert_accepted(certificate, layer, state, x)


@pytest.mark.parametrize("factor", [0.5, -0.5, 2.0, -2.0])
def test_the_papers_equation_with_a_factor(factor: float) -> None:
    """y = f + lambda relu(W y): the factor scales the slopes and may turn them round."""
    weight = math.copysign(1.0, factor) * monotone_weight(5, 2.0, 4)
    equation = OperatorEquation(lambda z, x: torch.relu(z @ weight.T), lambda x: x, factor)
    state, x = arguments(5)
    certificate = certify(equation, state, x, theorem="monotone")
    plain = certify(
        Layer(factor * weight, "relu"), state, x, theorem="monotone"
    )  # w = z - x, up to the sign of its slopes
    assert (certificate.verdict is Verdict.CERTIFIED) == (plain.verdict is Verdict.CERTIFIED)
    if certificate.verdict is Verdict.CERTIFIED:
        assert certificate.monotonicity == pytest.approx(plain.monotonicity, rel=1e-6)
        assert_accepted(certificate, equation, state, x)


@pytest.mark.parametrize("size", [1e30, 1e200, 1e308])
def test_weights_near_the_end_of_the_range_are_no_crash(size: float, capfd: pytest.CaptureFixture[str]) -> None:
    """The search for P overflows, so do values near a computed point; the verdict is another's business."""
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        weight = size * (2 * torch.rand(2, 2, generator=g, dtype=torch.float64) - 1)
        state, x = torch.randn(2, 4, 2, generator=g, dtype=torch.float64)
        for theorem in ("auto", "monotone"):
            certificate = certify(Layer(weight, "relu"), state, x, theorem=theorem)
            assert (
                certificate.verdict is Verdict.UNKNOWN or check(certificate, Layer(weight, "relu"), state, x).accepted
            )
    assert capfd.readouterr() == ("", "")  # LAPACK complains on the terminal about infinite numbers


def test_other_operators_are_unknown_by_name() -> None:
    class Two(nn.Module):
        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return torch.tanh(torch.relu(z) + x)

    certificate = certify(Two(), *arguments(3), theorem="monotone")
    assert certificate.verdict is Verdict.UNKNOWN
    assert "s(W z + c)" in certificate.reason


def test_arguments_that_do_not_fit() -> None:
    layer, (state, x) = Layer(-torch.eye(3), "relu"), arguments(3)
    with pytest.raises(InputError, match="l2 and its weighted forms"):
        certify(layer, state, x, theorem="monotone", norm="linf")
    with pytest.raises(InputError, match="holds globally"):
        certify(layer, state, x, theorem="monotone", region=Ball(state, 1.0))
    with pytest.raises(InputError, match="weights of shape"):
        certify(layer, state, x, theorem="monotone", norm=Norm("l2", (torch.ones(4, dtype=torch.float64),)))


# ------------------------------------------------------------------------------------- what the certificate gives


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Layer, Tensor, Tensor]:
    folder, layer, (state, x) = (
        tmp_path_factory.mktemp("monotone"),
        Layer(monotone_weight(4, 2.0, 7), "relu"),
        arguments(4),
    )
    certify(layer, state, x, theorem="monotone", norm="weighted_l2").save(folder / "c.json")
    return folder / "c.json", layer, state, x


def test_the_file_gives_the_same_certificate(saved: tuple[Path, Layer, Tensor, Tensor]) -> None:
    path, layer, state, x = saved
    loaded = Certificate.load(path)
    assert loaded.document() == certify(layer, state, x, theorem="monotone", norm="weighted_l2").document()
    with pytest.raises(InputError, match="proves no rate"):
        loaded.iterations(1e-3, 1.0)
    assert_accepted(path, layer, state, x)


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("evidence", lambda d: {**d["evidence"], "mu": (2 * float.fromhex(d["evidence"]["mu"])).hex()}),
        ("evidence", lambda d: {**d["evidence"], "mu": "nan"}),
        ("evidence", lambda d: {**d["evidence"], "mu": "-0x1p-3"}),
        ("evidence", lambda d: {**d["evidence"], "factor": (0.9 * float.fromhex(d["evidence"]["factor"])).hex()}),
        ("evidence", lambda d: {"kind": "lipschitz", "bound": "0x1p-1"}),
        ("rate", lambda d: "0x1p-1"),
        ("theorem", lambda d: "picard"),
        ("verdict", lambda d: "refuted"),
        ("norm", lambda d: {"order": "linf", "weights": None}),
        (
            "claim",
            lambda d: {
                "kind": "converges",
                "iteration": {"kind": "picard", "damping": "0x1p+0"},
                "region": d["region"],
            },
        ),
        ("claim", lambda d: {"kind": "contraction", "norm": d["norm"], "region": d["region"]}),
    ],
)
def test_tampered_certificates_are_rejected(
    saved: tuple[Path, Layer, Tensor, Tensor], field: str, change: Callable[[dict[str, Any]], Any]
) -> None:
    path, layer, state, x = saved
    document = json.loads(path.read_text())
    report = check(edit_certificate(path, **{field: change(document)}), layer, state, x)
    assert not report.accepted
    assert report.reasons


def test_a_solver_may_stop_on_the_proven_error(saved: tuple[Path, Layer, Tensor, Tensor]) -> None:
    _, single, state, x = saved
    layer, state, x = Layer(single.weight.detach().double(), "relu"), state.double(), x.double()
    certificate = certify(layer, state, x, theorem="monotone")
    solution = solve(
        layer,
        state,
        x,
        solver=Anderson(),
        tolerance=Tolerance(error=1e-6, certificate=certificate),
        max_evaluations=500,
    )
    for row, problem in zip(solution.value.double(), x, strict=True):
        (truth,) = relu_equilibria(layer.weight.detach(), problem)
        gaps = [(Fraction(v) - e) ** 2 for v, e in zip(row.tolist(), truth, strict=True)]
        assert sum(gaps, Fraction()) <= Fraction(1e-6) ** 2


def test_the_command_line_and_the_page(tmp_path: Path, capsys: Any) -> None:
    layer, (state, x) = Layer(monotone_weight(6, 8.0, 5), "relu"), arguments(6)
    export(tmp_path / "model.pt2", layer, state, x)
    write_tensors(tmp_path / "inputs.safetensors", state, (x,))
    files = [str(tmp_path / "model.pt2"), "--inputs", str(tmp_path / "inputs.safetensors")]
    assert main(["certify", *files, "--theorem", "monotone", "-o", str(tmp_path / "certificate.json")]) == 0
    assert "exactly one equilibrium" in capsys.readouterr().out
    assert main(["report", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "T5, monotone operators" in page
    assert "re-derived every bound" in page
    assert "or any other, converges to the one equilibrium" in page  # among what is not proven
    assert "Each step brings" not in page
    assert "That the rate is the best" not in page
