"""Equilibrium layers of convolutions, certified and checked: theorem `picard` in l1, l2, linf, and T6.

The truth is the operator's dense matrix with dyadic entries, exactly; at z = 0, x = 0 the slope of tanh is 1, so the
best contraction constant of `tanh(A z + x)` is the norm of A.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checker_builder import GraphBuilder
from cli_cases import edit_certificate
from convolutions import MODES, cases, integer_kernel, operator_matrix, squared_norm_from_below
from exact import bounds_norm, relu_equilibria, seeded
from flint import arb, fmpq
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deqops
from deqops.testing import assert_accepted
from deqops.verify import Ball, Certificate, UniqueEquilibrium, Verdict, certify, check, lipschitz_bound
from deqops.verify._conv_map import Convolution, Settings, convolve, read_axis
from deqops.verify._interval_jacobian import interval_jacobian
from deqops.verify._local import local_jacobian
from deqops.verify._midrad import MidRad
from deqops.verify._norm import Norm
from deqops.verify._problem import Problem
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker import _convolution as checked
from deqops.verify.checker import _torus
from deqops.verify.checker._monotone import single_layer
from deqops.verify.checker._network import Walk
from deqops.verify.checker._refusal import Rejected
from deqops.verify.checker._values import Values

SIZES = [(6,), (4, 3)]
PRECISE = arb(2) ** -40


class Layer(nn.Module):
    """`s(conv(z) + x)`."""

    def __init__(self, kernel: Tensor, mode: str, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        type_ = nn.Conv1d if kernel.ndim == 3 else nn.Conv2d
        taps = tuple(kernel.shape[2:])
        padding = tuple(n // 2 for n in taps)
        self.conv = type_(kernel.shape[1], kernel.shape[0], taps, padding=padding, padding_mode=mode, bias=False)
        self.conv.double().weight.data.copy_(kernel)
        self.activation = activation

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.activation(self.conv(z) + x)


class Written(nn.Module):
    """`f(z, x)` with modules at hand."""

    def __init__(self, f: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        self.f, self.parts = f, nn.ModuleDict(modules)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.f(self.parts, z, x)


def layer_matrix(kernel: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    return operator_matrix(kernel, size, padding=tuple(n // 2 for n in kernel.shape[2:]), padding_mode=mode)


def at_most(matrix: Tensor, order: str, bound: float) -> bool:
    """Whether the matrix' norm is at most the bound, exactly."""
    if order == "l2":
        return bounds_norm(matrix, bound)
    rows = matrix if order == "linf" else matrix.T
    return max(sum(Fraction(abs(v)) for v in row) for row in rows.tolist()) <= Fraction(bound)


def zeros(kernel: Tensor, size: tuple[int, ...], problems: int = 2) -> Tensor:
    return torch.zeros(problems, kernel.shape[0], *size, dtype=torch.float64)


# -------------------------------------------------------------------------------------------------- contractions


@given(
    st.sampled_from(MODES),
    st.sampled_from(SIZES),
    st.sampled_from(["l1", "l2", "linf"]),
    st.sampled_from([0.5, 1 - 1e-6, 1 + 1e-6, 4.0]),
    st.integers(0, 10**6),
)
@settings(max_examples=20)
def test_picard_verdicts_agree_with_the_exact_norm(
    mode: str, size: tuple[int, ...], order: str, share: float, seed: int
) -> None:
    """Certified below 1, refuted far above 1, and the checker agrees; a rate is never below the exact norm."""
    kernel = integer_kernel(2, 2, *(3 for _ in size), seed=seed)
    matrix = layer_matrix(kernel, size, mode)
    norm = float(torch.linalg.matrix_norm(matrix, {"l1": 1, "l2": 2, "linf": math.inf}[order]))
    assume(norm > 0)
    scale = Fraction(share / norm).limit_denominator(2**36)
    scale = Fraction(round(scale * 2**36), 2**36)  # few bits, so that every product is exact
    kernel, matrix = kernel * float(scale), matrix * float(scale)
    state = zeros(kernel, size)
    certificate = certify(Layer(kernel, mode), state, state, norm=order, theorem="picard")
    if certificate.verdict is Verdict.CERTIFIED:
        assert certificate.rate is not None
        assert at_most(matrix, order, certificate.rate)
        assert certificate.rate < 1
    elif certificate.verdict is Verdict.REFUTED:
        assert not at_most(matrix, order, 1.0)
    if certificate.verdict is not Verdict.UNKNOWN:
        report = check(certificate, Layer(kernel, mode), state, state)
        assert report.accepted, report.reasons
    if mode == "circular" or (mode == "zeros" and order != "l2"):  # these bounds are the norm up to rounding
        assert (certificate.verdict is Verdict.CERTIFIED) == (share < 1)
    if share == 4.0:
        assert certificate.verdict is Verdict.REFUTED
    if share == 0.5 and mode == "zeros":
        assert certificate.verdict is Verdict.CERTIFIED


@pytest.mark.parametrize("mode", ["circular", "zeros"])
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_rates_are_close_to_the_norm(mode: str, order: str) -> None:
    kernel = integer_kernel(3, 3, 3, 3, seed=1) / 256
    matrix = layer_matrix(kernel, (8, 8), mode)
    state = zeros(kernel, (8, 8), 1)
    rate = certify(Layer(kernel, mode), state, state, norm=order, theorem="picard").rate
    norm = float(torch.linalg.matrix_norm(matrix, {"l1": 1, "l2": 2, "linf": math.inf}[order]))
    assert rate is not None
    assert norm * (1 - 1e-12) <= rate <= norm * (1.05 if (order, mode) == ("l2", "zeros") else 1 + 1e-11)


def test_the_kernel_that_spectral_normalisation_passes_is_refuted() -> None:
    """The reshaped kernel has norm 1/2 and the convolution stretches constant images by more than 1."""
    kernel = torch.full((1, 1, 3, 3), 1 / 8, dtype=torch.float64)
    assert float(torch.linalg.matrix_norm(kernel.reshape(1, -1), 2)) < 0.5
    state = zeros(kernel, (8, 8), 1)
    for mode in ("circular", "zeros"):
        certificate = certify(Layer(kernel, mode), state, state, norm="l2", theorem="picard")
        assert certificate.verdict is Verdict.REFUTED
        assert_accepted(certificate, Layer(kernel, mode), state, state)


def _small(*modules: nn.Module, share: float = 0.3) -> tuple[nn.Module, ...]:
    with torch.no_grad():
        for module in modules:
            for number, parameter in enumerate(module.parameters()):
                values = torch.randn(parameter.shape, generator=seeded(number + parameter.numel()))
                parameter.copy_(share * values / math.sqrt(parameter[0].numel() + 1))
    return tuple(module.double() for module in modules)


def networks() -> dict[str, tuple[nn.Module, tuple[int, ...]]]:
    down, up = _small(nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 2, 3, 2, 1, 1))
    grouped, even = _small(
        nn.Conv2d(4, 4, 3, groups=2, dilation=2, padding="same"), nn.Conv2d(2, 2, (2, 4), padding="same")
    )
    first, second = _small(
        nn.Conv1d(2, 3, 5, padding=2, padding_mode="circular"), nn.Conv1d(3, 2, 3, padding=1, padding_mode="reflect")
    )
    uneven, flat = _small(nn.Conv2d(2, 2, 3, padding=1), nn.Conv1d(2, 2, 3, padding=1))
    pad = nn.functional.pad
    return {
        "down and up": (
            Written(lambda m, z, x: torch.tanh(m["b"](torch.relu(m["a"](z))) + x), a=down, b=up),
            (2, 6, 6),
        ),
        "groups, dilation": (Written(lambda m, z, x: torch.tanh(m["a"](z) + x), a=grouped), (4, 6, 5)),
        "even kernel": (Written(lambda m, z, x: torch.tanh(m["a"](z) + x), a=even), (2, 5, 5)),
        "two layers": (
            Written(lambda m, z, x: 0.25 * z + m["b"](torch.tanh(m["a"](z))) + x, a=first, b=second),
            (2, 7),
        ),
        "padded twice": (
            Written(lambda m, z, x: torch.tanh(m["a"](pad(z, (1, 0, 2, 1)))[:, :, 1:6, :5] + x), a=uneven),
            (2, 5, 5),
        ),
        "flat state": (
            Written(lambda m, z, x: torch.tanh(m["a"](z.reshape(-1, 2, 5)).flatten(1) + x), a=flat),
            (10,),
        ),
    }


NETWORKS = networks()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_networks_of_every_kind_are_bounded_and_checked(name: str, order: str) -> None:
    """Jacobians at sampled states lie below the bound; the checker confirms what is certified."""
    layer, shape = NETWORKS[name]
    state = torch.zeros(2, *shape, dtype=torch.float64)
    x = torch.randn(2, *shape, generator=seeded(3), dtype=torch.float64)
    bound = lipschitz_bound(layer, state, x, norm=order).upper
    steepest = 0.0
    for seed in range(3):
        at = torch.randn(1, *shape, generator=seeded(seed), dtype=torch.float64) * seed
        derivative = torch.autograd.functional.jacobian(lambda z: layer(z, -0.1 * z.detach()).flatten(), at)
        flat = derivative.reshape(at.numel(), at.numel())
        steepest = max(steepest, float(torch.linalg.matrix_norm(flat, {"l1": 1, "l2": 2, "linf": math.inf}[order])))
    assert steepest <= bound * (1 + 1e-9)
    certificate = certify(layer, state, x, norm=order, theorem="picard")
    assert (certificate.verdict is Verdict.CERTIFIED) == (bound < 1)
    if order == "l2":
        assert certificate.verdict is Verdict.CERTIFIED
    if certificate.verdict is Verdict.CERTIFIED:
        report = check(certificate, layer, state, x)
        assert report.accepted, report.reasons


def test_the_bound_of_an_error_holds_the_equilibrium() -> None:
    """Picard's iterates in float64 converge to within the bound, and the bound is not vacuous."""
    kernel = integer_kernel(2, 2, 3, 3, seed=5) / 128
    layer, state = Layer(kernel, "zeros"), zeros(kernel, (5, 5))
    x = torch.randn(state.shape, generator=seeded(6), dtype=torch.float64)
    certificate = certify(layer, state, x, norm="l2")
    y = state
    for _ in range(400):
        y = layer(y, x).detach()
    bound = certificate.error_bound(layer, state, x).l2
    distances = (y - state).flatten(1).norm(dim=1)
    assert bool((distances <= bound).all())
    assert bool((bound <= 4 * distances).all())
    assert bool((certificate.error_bound(layer, y, x).l2 <= 1e-12).all())


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_convolution_of_volumes_has_the_norm_of_its_matrix() -> None:
    """Read as one over height and width: certified just below 1, and accepted by the checker."""
    conv = nn.Conv3d(1, 1, 3, padding=1, bias=False).double()
    state = torch.zeros(1, 1, 3, 3, 3, dtype=torch.float64)
    matrix = torch.autograd.functional.jacobian(lambda z: conv(z).reshape(-1), state).reshape(27, 27)
    norm = float(matrix.abs().sum(dim=1).max())
    conv.weight.data.mul_(0.999 / norm)
    operator = Written(lambda m, z, x: torch.tanh(m["a"](z) + x), a=conv)
    certificate = certify(operator, state, state, norm="linf", theorem="picard")
    assert certificate.rate == pytest.approx(0.999, rel=1e-9)
    assert certificate.verdict is Verdict.CERTIFIED
    assert check(certificate, operator, state, state).accepted
    conv.weight.data.mul_(1.01)
    assert certify(operator, state, state, norm="linf", theorem="picard").verdict is not Verdict.CERTIFIED


def test_convolutions_without_a_rule_are_unknown_by_name() -> None:
    by_state = Written(lambda m, z, x: 0.1 * nn.functional.conv1d(x, z, padding=1))
    z = x = torch.ones(3, 3, 3, dtype=torch.float64)
    certificate = certify(by_state, z, x, batch_dims=0)
    assert certificate.verdict is Verdict.UNKNOWN
    assert "kernel that depends on the state" in certificate.explain()


def test_problems_may_not_be_mixed() -> None:
    """A convolution over what counts problems is no operator on each problem."""
    layer = Written(lambda m, z, x: 0.1 * m["a"](z[None])[0] + x, a=nn.Conv1d(4, 4, 3, padding=1).double())
    state = torch.zeros(4, 5, dtype=torch.float64)
    assert certify(layer, state, state, batch_dims=1).verdict is Verdict.UNKNOWN


# -------------------------------------------------------------------------------------------- enclosures and maps


def _settings(options: dict[str, Any]) -> Settings:
    padding = options["padding"] if options["padding_mode"] == "zeros" else tuple(0 for _ in options["padding"])
    return Settings(options["stride"], padding, options["dilation"], options["groups"])


def _copies(size: tuple[int, ...], options: dict[str, Any]) -> tuple[Tensor | None, ...]:
    """What torch's padding copies, read off a padded row of numbers."""
    if options["padding_mode"] == "zeros":
        return (None,) * len(size)
    found = []
    for side, pad in zip(size, options["padding"], strict=True):
        row = torch.arange(side, dtype=torch.float64).reshape(1, 1, side)
        found.append(nn.functional.pad(row, (pad, pad), mode=options["padding_mode"]).reshape(-1).long())
    return tuple(found)


@settings(max_examples=80)
@given(cases())
def test_maps_agree_with_the_exact_matrix(case: tuple[Tensor, tuple[int, ...], dict[str, Any]]) -> None:
    """Values, |A| x and |A|^T y, here and in the checker; integers, so both sides are exact.

    Taps that meet on one entry count by their moduli.
    """
    kernel, size, options = case
    matrix, moduli = (operator_matrix(k, size, **options) for k in (kernel, kernel.abs()))
    shape = (1, kernel.shape[1] * options["groups"], *size)
    stage = Convolution(shape, MidRad.exact(kernel), _settings(options), _copies(size, options))
    columns = torch.randint(-4, 5, (*shape, 3), generator=seeded(1)).double()
    image = stage.apply(MidRad.exact(columns))
    expected = (matrix @ columns.reshape(-1, 3)).reshape(image.shape)
    assert bool(((image.mid - expected).abs() <= image.rad).all())
    assert bool((image.rad <= 1e-10).all())
    assert image.shape[:-1] == stage.out_shape
    ones, outputs = torch.ones(shape, dtype=torch.float64), torch.ones(stage.out_shape, dtype=torch.float64)
    for found, sums in (
        (stage.abs_apply(ones), moduli.sum(1)),
        (stage.abs_apply_transposed(outputs), moduli.sum(0)),
    ):
        assert bool((found.reshape(-1) >= sums).all())
        assert bool((found.reshape(-1) <= sums * (1 + 1e-12)).all())
    attributes = checked.Attributes(
        *(getattr(_settings(options), n) for n in ("stride", "padding", "dilation", "groups")), None
    )
    copies = tuple(None if index is None else index.numpy() for index in stage.copies)
    with ball.working_precision():
        own = checked.Convolution(ball.exact(kernel), attributes, shape, copies)
        assert own.out_shape == stage.out_shape
        pairs = [
            (own.columns(ball.exact(columns), own.kernel), expected),
            (own.magnitude(ball.exact(ones)), moduli.sum(1)),
            (own.magnitude_transposed(ball.exact(outputs)), moduli.sum(0)),
        ]
        for balls, numbers in pairs:
            assert all(b == v for b, v in zip(balls.reshape(-1), numbers.reshape(-1).tolist(), strict=True))
        square = squared_norm_from_below(matrix)
        assert own.norm**2 >= arb(square.numerator) / square.denominator
        assert own.norm <= arb(stage.norm_bound("l2", None, None)) * (1 + PRECISE)


@settings(max_examples=40)
@given(cases(), st.integers(0, 2))
def test_transposed_maps_agree_with_the_exact_matrix(
    case: tuple[Tensor, tuple[int, ...], dict[str, Any]], extra: int
) -> None:
    kernel, size, options = case
    padding = tuple(min(p, 1) for p in options["padding"])
    wide = zip(options["stride"], options["dilation"], strict=True)
    output = tuple(min(extra, max(step, gap) - 1) for step, gap in wide)
    settings_ = Settings(options["stride"], padding, options["dilation"], options["groups"], output)
    shape = (1, kernel.shape[0], *size)
    count = math.prod(shape)
    apply = nn.functional.conv_transpose1d if len(size) == 1 else nn.functional.conv_transpose2d
    names = {
        "stride": options["stride"],
        "padding": padding,
        "dilation": options["dilation"],
        "groups": options["groups"],
    }
    unit = torch.eye(count, dtype=torch.float64).reshape(count, *shape[1:])
    try:
        matrix = apply(unit, kernel, output_padding=output, **names).reshape(count, -1).T
    except RuntimeError:
        assume(False)
    stage = Convolution(shape, MidRad.exact(kernel), settings_, (None,) * len(size))
    image = stage.apply(MidRad.exact(unit[0:1].movedim(0, -1).reshape(*shape, 1)))
    assert bool(((image.mid.reshape(-1) - matrix[:, 0]).abs() <= image.rad.reshape(-1)).all())
    ones, outputs = torch.ones(shape, dtype=torch.float64), torch.ones(stage.out_shape, dtype=torch.float64)
    assert bool((stage.abs_apply(ones).reshape(-1) >= matrix.abs().sum(1)).all())
    assert bool((stage.abs_apply_transposed(outputs).reshape(-1) >= matrix.abs().sum(0)).all())
    attributes = checked.Attributes(options["stride"], padding, options["dilation"], options["groups"], output)
    with ball.working_precision():
        own = checked.Convolution(ball.exact(kernel), attributes, shape, (None,) * len(size))
        assert own.out_shape == stage.out_shape
        for balls, sums in (
            (own.magnitude(ball.exact(ones)), matrix.abs().sum(1)),
            (own.magnitude_transposed(ball.exact(outputs)), matrix.abs().sum(0)),
        ):
            assert all(b == v for b, v in zip(balls.reshape(-1), sums.tolist(), strict=True))
        square = squared_norm_from_below(matrix)
        assert own.norm**2 >= arb(square.numerator) / square.denominator


def test_uncertain_kernels_are_enclosed_and_bounded() -> None:
    """A kernel within a radius: the sum of both norms, and values that hold every choice."""
    mid, rad = integer_kernel(2, 2, 3, seed=2), torch.full((2, 2, 3), 0.25, dtype=torch.float64)
    weight, settings_ = MidRad(mid, rad), Settings((1,), (1,), (1,), 1)
    stage = Convolution((1, 2, 5), weight, settings_, (None,))
    x = integer_kernel(1, 2, 5, seed=3)
    image = convolve(MidRad.exact(x), weight, settings_)
    for seed in range(20):
        signs = torch.randint(0, 2, rad.shape, generator=seeded(seed)).double() * 2 - 1
        matrix = operator_matrix(mid + signs * rad, (5,), padding=1, padding_mode="zeros")
        gap = (matrix @ x.reshape(-1)).reshape(image.shape) - image.mid
        assert bool((gap.abs() <= image.rad).all())
        assert Fraction(stage.norm_bound("l2", None, None)) ** 2 >= squared_norm_from_below(matrix)
    assert (
        Convolution((1, 2, 5), MidRad(mid, rad * math.nan), settings_, (None,)).norm_bound("l2", None, None) == math.inf
    )


@pytest.mark.parametrize(
    ("index", "pad", "expected"),
    [
        ([0, 1, 2, 3], 2, ("zeros", 4, 2, 2, 1)),
        ([-1, 0, 1, 2, 3, -1, -1], 1, ("zeros", 4, 2, 3, 1)),
        ([3, 0, 1, 2, 3, 0, 1], 0, ("circular", 4, 1, 2, 1)),
        ([3, 0, 1, 2, 3, 0], 1, ("zeros", 6, 1, 1, 2)),
        ([0, 0, 1, 2, 3, 3, 3], 0, ("zeros", 7, 0, 0, 3)),
        ([0, -1, 1, 2, 3], 0, ("zeros", 5, 0, 0, 1)),
        ([2, 1, 0], 0, ("zeros", 3, 0, 0, 1)),
        ([0, 1, 2], 0, ("zeros", 3, 0, 0, 1)),
        ([-1, -1], 0, ("zeros", 2, 0, 0, 0)),
    ],
)
def test_copied_entries_are_read_as_the_padding_they_are(index: list[int], pad: int, expected: tuple[Any, ...]) -> None:
    """Zeros around, a circle, or a map with repetitions; the checker reads them alike."""
    axis, copies = read_axis(4, torch.tensor(index), pad)
    assert (axis.mode, axis.size, axis.before, axis.after, copies) == expected
    dimension, most = checked._dimension(4, np.array(index), pad)
    assert (dimension.mode, dimension.size, dimension.before, dimension.after, most) == expected


# ------------------------------------------------------------------------------------- the checker's own numbers


@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_the_checkers_norm_holds_exactly_and_is_close(mode: str) -> None:
    """Rationals decide: `bound^2 I - A^T A` is positive semidefinite, and not for a bound slightly smaller."""
    for seed in range(3):
        kernel = torch.randn(2, 2, 3, generator=seeded(seed), dtype=torch.float64)
        matrix = layer_matrix(kernel, (6,), mode)
        with ball.working_precision():
            bound = _torus.torus_norm(ball.exact(kernel), [_torus.Dimension(6, mode, 1, 1)], (1,), (1,), 1)
            above = float(bound) * (1 + 2.0**-50)
        assert bounds_norm(matrix, above)
        assert not bounds_norm(matrix, above / (1 + 1e-12 if mode == "circular" else 1.3))


def test_the_checker_takes_half_steps_too() -> None:
    """A tridiagonal Toeplitz matrix has norm 2 + 2 cos(pi / (N + 1))."""
    with ball.working_precision():
        kernel = ball.exact(torch.tensor([[[1.0, 2.0, 1.0]]]))
        for side in (4, 9):
            bound = _torus.torus_norm(kernel, [_torus.Dimension(side, "zeros", 1, 1)], (1,), (1,), 1)
            norm = 2 + 2 * arb.cos_pi_fmpq(fmpq(1, side + 1))
            assert norm <= bound
            assert bound <= norm * (1 + 1e-13)
            around = _torus.torus_norm(kernel, [_torus.Dimension(side, "circular", 1, 1)], (1,), (1,), 1)
            assert around >= 4


@pytest.mark.parametrize("failure", ["no factor", "a poor factor", "a low estimate"])
def test_wrong_floating_point_costs_the_checker_tightness_only(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = integer_kernel(2, 2, 3, seed=4)
    matrix = layer_matrix(kernel, (6,), "circular")
    right = np.linalg.cholesky

    def fail(matrix: Any) -> Any:
        raise np.linalg.LinAlgError

    if failure == "no factor":
        monkeypatch.setattr(np.linalg, "cholesky", fail)
    if failure == "a poor factor":
        monkeypatch.setattr(np.linalg, "cholesky", lambda m: 0.5 * right(m))
    if failure == "a low estimate":
        monkeypatch.setattr(np.linalg, "norm", lambda *a, **k: np.full(1, 0.1))
    with ball.working_precision():
        bound = _torus.torus_norm(ball.exact(kernel), [_torus.Dimension(6, "circular", 1, 1)], (1,), (1,), 1)
        square = squared_norm_from_below(matrix)
        assert bound**2 >= arb(square.numerator) / square.denominator
        assert bound <= 3 * float(torch.linalg.matrix_norm(matrix, 2))


def test_the_checker_counts_the_radius_of_a_kernel_and_refuses_what_is_too_large() -> None:
    with ball.working_precision():
        dims = [_torus.Dimension(6, "circular", 1, 1)]
        kernel = ball.exact(integer_kernel(2, 2, 3, seed=5))
        plain = _torus.torus_norm(kernel, dims, (1,), (1,), 1)
        wide = _torus.torus_norm(ball.array(kernel + arb(0, 0.125)), dims, (1,), (1,), 1)
        assert wide >= plain + 0.125 * 3  # the kernel with 1/8 more in every entry
        assert _torus.torus_norm(ball.array(kernel * arb.nan()), dims, (1,), (1,), 1) == arb.pos_inf()
        with pytest.raises(Rejected, match="beyond the checker"):
            _torus._refuse_too_much([64, 64], (1, 9, 128, 128))


def test_a_convolution_is_no_activation_of_a_monotone_layer() -> None:
    """`-conv(z)` has sources like `s(W z)` with s = -1, W = I, which would be monotone whatever the kernel."""
    build = GraphBuilder(torch.zeros(1, 2, 4, dtype=torch.float64))
    kernel = build.constant(integer_kernel(2, 2, 3, seed=1))
    options = {"stride": (1,), "padding": (1,), "dilation": (1,), "groups": 1}
    graph = build.graph(build.op("neg", build.op("conv", build.state[0], kernel, **options)))
    with ball.working_precision():
        walk = Walk(graph, Values(graph, None, frozenset()))
        with pytest.raises(Rejected, match="not of the form"):
            single_layer(walk.network, walk.outputs)


# ------------------------------------------------------------------------------------------------ one equilibrium


@pytest.mark.parametrize("mode", MODES)
def test_the_interval_jacobian_holds_the_matrix(mode: str) -> None:
    """Of the linear layer it is the matrix; of tanh on a small ball it holds the derivative."""
    kernel = integer_kernel(2, 2, 3, seed=7) / 8
    matrix, state = layer_matrix(kernel, (5,), mode), zeros(kernel, (5,))
    linear = Layer(kernel, mode, lambda v: v)
    problem = Problem(deqops.graph.trace(linear, state, state), state, (state,))
    found = interval_jacobian(problem.jacobian, 1)
    assert found.shape == (2, 10, 10)
    assert bool(((found.mid - matrix).abs() <= found.rad).all())
    assert bool((found.rad <= 1e-12).all())
    curved = Problem(deqops.graph.trace(Layer(kernel, mode), state, state), state, (state,))
    centre = torch.randn(state.shape, generator=seeded(8), dtype=torch.float64)
    local = interval_jacobian(local_jacobian(curved, Ball(centre, 0.01), Norm("l2")), 1)
    for problem_number in range(2):
        slopes = 1 - torch.tanh(matrix @ centre[problem_number].reshape(-1)) ** 2
        gap = (local.mid[problem_number] - slopes[:, None] * matrix).abs()
        assert bool((gap <= local.rad[problem_number] + 1e-14).all())
    assert float(local.rad.max()) <= 0.1


@pytest.mark.parametrize("mode", ["circular", "zeros"])
def test_exactly_one_equilibrium_in_the_ball(mode: str) -> None:
    """T6 of `relu(conv(z) + x)` of norm 1.5 and more: its exact equilibria by trying every set of active units."""
    located = 0
    for seed in range(6):
        kernel = integer_kernel(1, 1, 3, seed=seed) / 2
        matrix = layer_matrix(kernel, (5,), mode)
        layer = Layer(kernel, mode, torch.relu)
        x = torch.randint(-8, 9, (1, 1, 5), generator=seeded(seed)).double()
        equilibria = relu_equilibria(matrix, x.reshape(-1))
        for root in equilibria:
            centre = torch.tensor([float(v) for v in root], dtype=torch.float64).reshape(1, 1, 5)
            region = Ball(centre, 0.05)
            certificate = certify(layer, centre, x, theorem="newton_kantorovich", region=region)
            if certificate.verdict is not Verdict.CERTIFIED:
                continue
            located += 1
            assert isinstance(certificate.claim, UniqueEquilibrium)
            report = check(certificate, layer, centre, x)
            assert report.accepted, report.reasons
            ball_ = certificate.region
            assert isinstance(ball_, Ball)
            centre_ = [Fraction(v) for v in ball_.leaves[0].reshape(-1).tolist()]
            inside = [y for y in equilibria if _inside(y, centre_, ball_)]
            assert len(inside) == 1
    assert located >= 3


def _inside(y: list[Fraction], centre: list[Fraction], region: Ball) -> bool:
    gaps = [abs(a - b) for a, b in zip(y, centre, strict=True)]
    radius = Fraction(region.radius)
    order = region.norm.order
    if order == "l2":
        return sum(g * g for g in gaps) <= radius**2
    return (max(gaps) if order == "linf" else sum(gaps)) <= radius


# ----------------------------------------------------------------------------------------------- files and frauds


@pytest.fixture(scope="module", params=["circular", "zeros"])
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Tensor, Tensor]:
    """A certificate in l2 with a rate that is the norm to the last few digits."""
    folder, kernel = tmp_path_factory.mktemp("convolutions"), integer_kernel(2, 2, 3, 3, seed=2) / 64
    state = zeros(kernel, (5, 4))
    certificate = certify(Layer(kernel, request.param), state, state, norm="l2", theorem="picard")
    assert certificate.verdict is Verdict.CERTIFIED
    certificate.save(folder / "c.json")
    return folder / "c.json", request.param, kernel, state


def test_the_model_file_gives_the_same_certificate(saved: tuple[Path, str, Tensor, Tensor]) -> None:
    """The exported program's reader sees the same operator."""
    path, mode, kernel, state = saved
    model = path.parent / "model.pt2"
    deqops.export(model, Layer(kernel, mode), state, state)
    loaded = deqops.load(model)
    again = certify(loaded, state, state, norm="l2", theorem="picard")
    assert again.rate == Certificate.load(path).rate
    assert_accepted(path, loaded, state, state)
    assert_accepted(again, Layer(kernel, mode), state, state)


def _claimed(document: dict[str, Any], factor: float) -> dict[str, Any]:
    bound = (factor * float.fromhex(document["evidence"]["bound"])).hex()
    return {"evidence": {**document["evidence"], "bound": bound}, "rate": bound, "hypotheses": []}


def test_tampered_certificates_are_rejected(saved: tuple[Path, str, Tensor, Tensor]) -> None:
    path, mode, kernel, state = saved
    document, layer = json.loads(path.read_text()), Layer(kernel, mode)
    assert_accepted(edit_certificate(path, **_claimed(document, 1.0)), layer, state, state)
    matrix = torch.autograd.functional.jacobian(lambda z: layer(z, state), state).reshape(state.numel(), state.numel())
    tight = float(torch.linalg.matrix_norm(matrix, 2)) / float.fromhex(document["rate"])  # below 1 for zero padding
    for factor in (tight * (1 - 1e-11), 0.99 * tight, 0.5, 0.0, -1.0, math.nan):
        report = check(edit_certificate(path, **_claimed(document, factor)), layer, state, state)
        assert not report.accepted
        assert report.reasons


def test_other_operators_are_rejected(saved: tuple[Path, str, Tensor, Tensor]) -> None:
    """Another kernel by one bit, another padding with the same kernel, another stride, another image size."""
    path, mode, kernel, state = saved
    other = kernel.clone()
    other[0, 0, 1, 1] = torch.nextafter(other[0, 0, 1, 1], torch.tensor(9.0, dtype=torch.float64))
    modes = [Layer(kernel, another) for another in MODES if another != mode]
    for layer in (Layer(other, mode), Layer(kernel.flip(2), mode), *modes):
        assert not check(path, layer, state, state).accepted
    wider = zeros(kernel, (5, 5))
    assert not check(path, Layer(kernel, mode), wider, wider).accepted
