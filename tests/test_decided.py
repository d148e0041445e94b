"""Conditions and steps on a region: constants where they have one value there, a jump one number farther."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
from exact import seeded
from flint import arb
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from deqops import UnsupportedOperationError
from deqops.graph import trace
from deqops.verify import Around, Ball, Box, Certificate, InputBox, Verdict, certify, check
from deqops.verify._decided import decided
from deqops.verify._enclosures import Constants, enclose_node
from deqops.verify._float_program import program_error
from deqops.verify._midrad import MidRad
from deqops.verify.checker import _arithmetic as ball
from deqops.verify.checker._steps import STEPS, step

SIZE = 3


def _to(points: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Each entry's distance from the nearest of the points around it."""
    return lambda z: (z - points(z)).abs()


# What jumps, and how far each entry is from the next jump.
JUMPS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "where": (lambda z: torch.where(z > 0.25, z.exp(), -z.exp()), _to(lambda z: torch.full_like(z, 0.25))),
    "sign": (torch.sign, _to(torch.zeros_like)),
    "floor": (torch.floor, _to(torch.round)),
    "ceil": (torch.ceil, _to(torch.round)),
    "round": (torch.round, _to(lambda z: z.floor() + 0.5)),
    "trunc": (torch.trunc, lambda z: torch.where(z.abs() < 1, 1 - z.abs(), (z - z.round()).abs())),
    "remainder": (lambda z: z.remainder(0.5) + z.floor(), _to(lambda z: (2 * z).round() / 2)),
    "fmod": (
        lambda z: z.fmod(1.0) + z.sign(),
        lambda z: torch.minimum((z - z.round()).abs(), z.abs()),
    ),
    "hardshrink": (lambda z: F.hardshrink(z, 0.5), lambda z: (z.abs() - 0.5).abs()),
    "both": (
        lambda z: ((z > -0.5) & ~(z > 0.75)).double(),
        lambda z: torch.minimum((z + 0.5).abs(), (z - 0.75).abs()),
    ),
    "either": (
        lambda z: torch.where((z > 0) ^ (z > 1), 2 * z, z),
        lambda z: torch.minimum(z.abs(), (z - 1).abs()),
    ),
    "heaviside": (lambda z: torch.heaviside(z, torch.ones_like(z)), _to(torch.zeros_like)),
    "of a step": (lambda z: (2 * z.floor() > 1).double() + z.floor(), _to(torch.round)),
}


class Jumping(nn.Module):
    """`z -> c + A (z - c) + f(z) - f(c)`, of which c is an equilibrium; `||A|| = 0.3`, f jumps."""

    def __init__(self, jump: Callable[[Tensor], Tensor], c: Tensor, slope: float) -> None:
        super().__init__()
        self.jump, self.slope = jump, slope
        orthogonal = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=seeded(4), dtype=torch.float64))[0]
        self.register_buffer("A", 0.3 * orthogonal)
        self.register_buffer("c", c)
        self.register_buffer("b", c - slope * jump(c))

    def forward(self, z: Tensor) -> Tensor:
        return self.b + (z - self.c) @ self.A.T + self.slope * self.jump(z)


def _case(kind: str, seed: int) -> tuple[Jumping, Tensor, float]:
    """(operator, its equilibrium, the least distance from a jump)."""
    jump, distance = JUMPS[kind]
    c = 1.5 * torch.randn(1, SIZE, generator=seeded(seed), dtype=torch.float64)
    smooth = kind in ("where", "remainder", "fmod", "hardshrink", "either")
    return Jumping(jump, c, 0.02 if smooth else 1.0), c, float(distance(c).min())


def _certified(found: Certificate) -> bool:
    return found.verdict is Verdict.CERTIFIED


@pytest.mark.parametrize("kind", JUMPS)
@given(seed=st.integers(0, 200), norm=st.sampled_from(["l2", "linf"]), share=st.sampled_from([0.5, 0.99, 1.01, 1.5]))
def test_T2_local_picard_holds_up_to_the_first_jump_and_no_farther(
    kind: str, seed: int, norm: str, share: float
) -> None:
    operator, c, distance = _case(kind, seed)
    assume(1e-3 < distance < 0.4)
    found = certify(operator, c, region=Ball((c,), share * distance), norm=norm, theorem="local_picard")
    assert _certified(found) == (share < 1)
    if _certified(found):
        assert check(found, operator, c).accepted


@pytest.mark.parametrize("kind", ["sign", "floor", "both"])
def test_T2_local_picard_on_a_box_between_two_jumps(kind: str) -> None:
    operator, c, distance = _case(kind, 3)
    for share, expected in ((0.99, True), (1.01, False)):
        region = Box(c - share * distance, c + share * distance)
        found = certify(operator, c, region=region, norm="linf", theorem="local_picard")
        assert _certified(found) == expected
        assert not expected or check(found, operator, c).accepted


@pytest.mark.parametrize("theorem", ["local_lyapunov", "newton_kantorovich"])
def test_the_other_theorems_in_a_ball_stop_at_the_jump_too(theorem: str) -> None:
    """T12 and T6."""
    operator, c, distance = _case("sign", 7)
    near, far = (certify(operator, c, region=Ball((c,), s * distance), theorem=theorem) for s in (0.9, 1.1))
    assert _certified(near)
    assert check(near, operator, c).accepted
    assert not _certified(far)


@pytest.mark.parametrize("kind", ["where", "sign", "floor"])
def test_the_checker_refuses_a_ball_that_reaches_a_jump(kind: str) -> None:
    operator, c, distance = _case(kind, 5)
    found = certify(operator, c, region=Ball((c,), 0.9 * distance), norm="linf", theorem="local_picard")
    assert check(found, operator, c).accepted
    region = Ball((c,), 1.1 * distance, found.norm)
    spoilt = dataclasses.replace(found, region=region, claim=dataclasses.replace(found.claim, region=region))
    report = check(spoilt.document(), operator, c)
    assert not report.accepted
    assert "jump" in report.reasons[0] or "no Lipschitz rule" in report.reasons[0]


def test_the_largest_ball_ends_before_the_jump() -> None:
    operator, c, distance = _case("sign", 11)
    found = certify(operator, c, region=Around(c))
    assert _certified(found)
    assert isinstance(found.region, Ball)
    assert 0.5 * distance < found.region.radius < distance


def test_everywhere_a_jump_is_none_of_a_contraction() -> None:
    operator, c, _ = _case("sign", 11)
    found = certify(operator, c, region=None, theorem="picard")
    assert not _certified(found)


def test_the_side_that_no_state_chooses_need_not_be_defined() -> None:
    """`log` of negative numbers, and NaN, beside what is chosen."""

    def operator(z: Tensor) -> Tensor:
        v = z - 2.0
        return torch.where(v > 0, v.log(), torch.where(v.isnan(), torch.nan, 0.5 * v)) - 0.2

    y = torch.full((1, 2), -2.4, dtype=torch.float64)
    found = certify(operator, y, region=Ball((y,), 0.5), norm="linf")
    assert _certified(found)
    assert check(found, operator, y).accepted


def test_an_input_that_decides_is_fixed_in_the_claim() -> None:
    """A condition compares with an input: another value of it would choose otherwise."""

    def operator(z: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return torch.where(z > t, 0.5 * z, 3.0 * z) + x

    y = torch.zeros(1, 2, dtype=torch.float64)
    x, low, high = torch.zeros(1, 2).double(), torch.full((1, 2), -1.0).double(), torch.full((1, 2), 1.0).double()
    found = certify(operator, y, x, low, region=Ball((y,), 0.5), norm="linf", theorem="local_picard")
    assert _certified(found)
    assert check(found, operator, y, x, low).accepted
    assert not check(found, operator, y, x, high).accepted


@pytest.mark.parametrize(
    "undefined",
    [
        lambda z: (2 * z).asin(),
        lambda z: z.rsqrt().tanh(),
        lambda z: (1 / z).sin(),
        lambda z: z.log().sign() - 1,
        lambda z: (1 / (1 / z).clamp(-1, 1).sin()).atan(),
    ],
)
def test_a_condition_on_what_is_not_defined_decides_nothing(undefined: Callable[[Tensor], Tensor]) -> None:
    """What is compared is NaN somewhere in the ball, where the other side is chosen, whatever its range elsewhere."""
    y = torch.full((1, 1), 0.1, dtype=torch.float64)
    found = certify(
        lambda z: torch.where(undefined(z) >= -9.0, 0.5 * z, 0.5 * z + 9.0),
        y,
        region=Ball((y,), 0.5),
        norm="linf",
        theorem="local_picard",
    )
    assert not _certified(found)


def test_a_condition_on_an_input_that_makes_it_undefined_decides_nothing() -> None:
    """tanh hides that the logarithm is NaN for some inputs between the two ends."""
    y = torch.full((1, 1), 0.1, dtype=torch.float64)
    ends = InputBox(torch.full((1, 1), -0.5).double(), torch.full((1, 1), 0.9).double())

    def operator(z: Tensor, x: Tensor) -> Tensor:
        return torch.where(z + 5 > (1 / x.log()).tanh(), 0.5 * z, 0.5 * z + 9)

    found = certify(operator, y, ends, region=Ball((y,), 0.5), norm="linf", theorem="local_picard")
    assert not _certified(found)


def test_T11_absorbing_with_a_jump_outside_of_the_box() -> None:
    def operator(z: Tensor) -> Tensor:
        return 0.9 * (z.sin() + (z > 3.0).to(z.dtype)).tanh()

    y = torch.zeros(1, 2, dtype=torch.float64)
    found = certify(operator, y, theorem="absorbing", norm="linf")
    assert _certified(found)
    assert check(found, operator, y).accepted


def test_masked_scores_are_chosen_by_decided_conditions() -> None:
    """Minus infinity by a condition of the state; a row of nothing else has no probabilities."""

    def operator(z: Tensor) -> Tensor:
        return 0.1 * torch.where(z > 0, z, -torch.inf).softmax(-1) + z.sign()

    y = torch.tensor([[1.05, 1.05, -1.0]], dtype=torch.float64)
    found = certify(operator, y, region=Ball((y,), 0.2), norm="linf")
    assert _certified(found)
    assert check(found, operator, y).accepted
    gone = -torch.ones(1, 3, dtype=torch.float64)
    assert certify(operator, gone, region=Ball((gone,), 0.2), norm="linf").verdict is Verdict.UNKNOWN


def test_a_graph_without_jumps_stays_as_it_is() -> None:
    z = torch.zeros(1, 2, dtype=torch.float64)
    graph = trace(lambda v: v.relu() * 0.5, z).concrete(z)
    constants = Constants(graph)
    assert decided(graph, constants, [MidRad.exact(z)]) == (graph, constants)


# ----------------------------------------------------------------------------------------------------- the parts

_TRUTH: dict[str, Callable[[Fraction], int]] = {
    "sign": lambda x: (x > 0) - (x < 0),
    "floor": lambda x: x.__floor__(),
    "ceil": lambda x: x.__ceil__(),
    "round": round,
}
_ENDS = st.sampled_from([-2.5, -1.5, -1.0, -0.5, -0.0, 0.0, 5e-324, 0.5, 0.75, 1.0, 2.5, 3.5, 2.0**52 + 0.5, 1e300])


@pytest.mark.parametrize("op", STEPS)
@given(ends=st.tuples(_ENDS, _ENDS))
def test_steps_enclose_the_values_at_both_ends(op: str, ends: tuple[float, float]) -> None:
    low, high = sorted(ends)
    least, most = (_TRUTH[op](Fraction(end)) for end in (low, high))
    found = step(op, ball.array(arb(low)), ball.array(arb(high)))[()]
    assert found.contains(least)
    assert found.contains(most)
    if low == high and abs(low) < 1e18:
        assert found.is_exact()
        assert found == least
    graph = trace(lambda z: getattr(torch, op)(z), torch.zeros(1, dtype=torch.float64), batch_dims=0)
    node = graph.concrete(torch.zeros(1, dtype=torch.float64)).nodes[-1]
    ours: Any = enclose_node(
        node, [MidRad.from_bounds(*(torch.tensor([end], dtype=torch.float64) for end in (low, high)))]
    )
    assert Fraction(float(ours.lower())) <= least
    assert most <= Fraction(float(ours.upper()))
    if low == high:
        assert ours.is_exact()


def test_a_number_is_rounded_to_the_dtype_it_is_compared_in() -> None:
    """0.1 as float32 is above 0.1, and torch compares the two as equal: no bound of rounding errors there."""
    z = torch.full((1, 1), 0.1)
    graph = trace(lambda v: torch.where(v > 0.1, v, v.neg()), z).concrete(z)
    with pytest.raises(UnsupportedOperationError, match="close"):
        program_error(graph, [MidRad.exact(z.double())], 1.0)
    apart = torch.full((1, 1), 0.2)
    (error,) = program_error(graph, [MidRad.exact(apart.double())], 1.0).leaves
    assert float(error) == 0.0
