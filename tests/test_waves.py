"""sin and cos: their enclosures, slopes and certificates against 300-bit balls."""

from __future__ import annotations

import fractions
import math

import pytest
import torch
from exact import ball, seeded
from flint import arb
from torch import Tensor, nn

import deqops.testing as kit
from deqops.verify import Ball, Box, Verdict, certify
from deqops.verify import _waves as waves
from deqops.verify._midrad import MidRad
from deqops.verify._slopes import slope_range

NAMES = ["sin", "cos"]
DERIVATIVE = {"sin": lambda a: a.cos(), "cos": lambda a: -a.sin()}


def arguments() -> Tensor:
    scales = (1e-300, 1e-20, 1e-3, 1.0, 30.0, 3e3, 3e5)
    drawn = [torch.randn(40, generator=seeded(n), dtype=torch.float64) * s for n, s in enumerate(scales)]
    quarters = torch.arange(-40, 41, dtype=torch.float64) * (math.pi / 4)
    far = torch.tensor([2.0**20, -(2.0**20), 2.0**20 + 1, 1e22, -1e308, 5e-324, 0.0, 6e5], dtype=torch.float64)
    return torch.cat([*drawn, quarters, far])


@pytest.mark.parametrize("name", NAMES)
def test_values_at_points_contain_the_truth_and_are_narrow(name: str) -> None:
    x = arguments()
    found = getattr(waves, name)(MidRad.exact(x))
    for value, low, high in zip(x.tolist(), found.lower().tolist(), found.upper().tolist(), strict=True):
        truth = getattr(ball(value), name)()
        assert not ball(low) > truth, value
        assert not truth > ball(high), value
        assert low >= -1 - 4e-16, value
        assert high <= 1 + 4e-16, value
        assert high - low <= (4e-15 if abs(value) <= 2**20 else 2), value


def test_the_products_of_the_reduction_are_exact() -> None:
    """Up to 2^20, of both leading parts of pi/2, which with the third are pi/2 to 2^-120."""
    parts = (waves.HALF_PI_HIGH, waves.HALF_PI_MIDDLE, waves.HALF_PI_LOW)
    assert all(fractions.Fraction(part).numerator < 2**32 for part in parts[:2])
    assert abs(arb.pi() / 2 - sum(map(ball, parts), arb(0))) < arb(2) ** -120
    assert abs(1 / arb.pi() - ball(waves.INVERSE_PI)) < arb(2) ** -55


def image(name: str, low: float, high: float) -> tuple[arb, arb]:
    """The exact range between two ends: the values there and at the multiples of pi/2 between them."""
    first, last = (math.floor(end / (math.pi / 2)) for end in (low, high))
    between = [arb.pi() / 2 * k for k in range(first - 1, min(last, first + 8) + 2)]
    met = [p for p in between if p >= ball(low) and p <= ball(high)]
    values = [getattr(p, name)() for p in [ball(low), ball(high), *met]]
    least, most = values[0], values[0]
    for value in values[1:]:
        least, most = least.min(value), most.max(value)
    return least, most


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("radius", [1e-12, 1e-3, 0.3, 1.5, 3.0, 40.0])
def test_values_and_slopes_over_intervals_are_the_range(name: str, radius: float) -> None:
    """Both ways: they contain it and exceed it by rounding only."""
    mid = torch.cat([torch.randn(60, generator=seeded(3), dtype=torch.float64) * 8, torch.arange(-8, 9) * math.pi / 2])
    x = MidRad(mid, torch.full_like(mid, radius))
    value, slopes = getattr(waves, name)(x), slope_range(name, {}, x)
    other = {"sin": "cos", "cos": "sin"}[name]
    for i, (low, high) in enumerate(zip(x.lower().tolist(), x.upper().tolist(), strict=True)):
        least, most = image(name, low, high)
        assert not ball(float(value.lower()[i])) > least
        assert not ball(float(value.upper()[i])) < most
        assert float(most) - float(least) + 1e-14 >= float(value.upper()[i] - value.lower()[i])
        least, most = image(other, low, high)
        least, most = (least, most) if name == "sin" else (-most, -least)
        assert isinstance(slopes[0], Tensor)
        assert isinstance(slopes[1], Tensor)
        assert not ball(float(slopes[0][i])) > least
        assert not ball(float(slopes[1][i])) < most
        assert float(most) - float(least) + 1e-14 >= float(slopes[1][i] - slopes[0][i])


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_is_known_of_the_argument_the_values_are_the_whole_range(name: str) -> None:
    mid = torch.tensor([0.0, 1e15, 1e300, 2.0**60], dtype=torch.float64)
    rad = torch.tensor([math.inf, 2.0, 1.0, 3e18], dtype=torch.float64)
    found = getattr(waves, name)(MidRad(mid, rad))
    assert bool((found.lower() == -1).all())
    assert bool((found.upper() == 1).all())


@pytest.mark.parametrize("name", NAMES)
def test_nan_and_infinity_are_never_enclosed_by_numbers(name: str) -> None:
    odd = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
    for rad in (0.0, 1.0, math.nan):
        found = getattr(waves, name)(MidRad(odd, torch.full_like(odd, rad)))
        assert bool((found.mid.isnan() | found.rad.isnan()).all())
    assert not getattr(waves, name)(MidRad(torch.zeros(1).double(), torch.full((1,), math.nan).double())).is_finite()


class Wavy(nn.Module):
    def __init__(self, gain: float) -> None:
        super().__init__()
        w = torch.randn(6, 6, generator=seeded(1), dtype=torch.float64)
        self.weight = nn.Parameter(gain * w / torch.linalg.matrix_norm(w, 2))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        phase = z @ self.weight + x
        return 0.5 * torch.sin(phase) + 0.5 * torch.cos(phase - 1.4)


@pytest.mark.parametrize("around", ["ball", "box"])
def test_an_operator_of_waves_is_certified_where_its_slopes_are_small_and_checked(around: str) -> None:
    """A weight of norm 1.6 and slopes up to 0.99: no contraction globally, one near the crest of the waves."""
    G, z = Wavy(1.6), torch.full((2, 6), 0.5 * math.sin(1.3) + 0.5 * math.cos(0.1), dtype=torch.float64)
    x = (1.3 - z @ G.weight).detach()
    region = Ball(z, 0.01) if around == "ball" else Box(z - 0.01, z + 0.01)
    certificate = certify(G, z, x, region=region)
    assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
    kit.assert_accepted(certificate, G, z, x)
