"""T1 `picard` and T9 `refute` on layers whose contraction constant is known exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

import deqops.testing as kit
from deqops.verify import Certificate, Verdict, certify

DISTANCES = [Fraction(1, 10**9), Fraction(1, 10**6), Fraction(1, 1000), Fraction(1, 10)]
CASES = 300
CHUNKS = 6


def dyadic(value: Fraction) -> Fraction:
    """The nearest number with 36 binary places."""
    return Fraction(round(value * 2**36), 2**36)


def tanh_layer(size: int, norm: Fraction, seed: int) -> tuple[kit.Layer, Tensor, Tensor]:
    """`tanh(W z + U x + b)` with `||W||_2 = norm` exactly and W invertible, so that all slopes are reached."""
    generator = torch.Generator().manual_seed(seed)
    U, b, x = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((size, 3), (size,), (2, 3)))
    weight = kit.matrix_of_norm(kit.Seeded(seed), size, norm, least=2, most=6)
    return kit.Layer(weight, "tanh", U, b), torch.zeros(2, size, dtype=torch.float64), x


def known_norm(case: int) -> Fraction:
    """1 +- a distance, the dyadic number on the far side of 1 + distance."""
    distance = DISTANCES[case % 4]
    step = Fraction(1, 2**36)
    if case % 8 < 4:
        return dyadic(1 - distance) if dyadic(1 - distance) <= 1 - distance else dyadic(1 - distance) - step
    return dyadic(1 + distance) if dyadic(1 + distance) >= 1 + distance else dyadic(1 + distance) + step


def verdict_on(case: int) -> tuple[Fraction, Certificate]:
    size = 2 ** (1 + case % 8) if case % 8 else 256 >> (case // 8 % 8)
    norm = known_norm(case)
    layer, y0, x = tanh_layer(max(size, 2), norm, case)
    return norm, certify(layer, y0, x, theorem="picard", norm="l2")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_picard_certifies_every_layer_below_one_and_none_above(chunk: int) -> None:
    for case in range(chunk, CASES, CHUNKS):
        norm, certificate = verdict_on(case)
        if norm < 1:
            assert certificate.verdict is Verdict.CERTIFIED, (case, certificate.explain())
            assert certificate.rate is not None
            assert norm <= Fraction(certificate.rate) <= norm * (1 + Fraction(1, 10**10))
        else:
            assert certificate.verdict is not Verdict.CERTIFIED, case
            if norm > 1 + Fraction(1, 10**4):
                assert certificate.verdict is Verdict.REFUTED, (case, certificate.explain())


def test_norm_exactly_one_is_not_certified() -> None:
    layer, y0, x = tanh_layer(16, Fraction(1), 0)
    assert certify(layer, y0, x, theorem="picard", norm="l2").verdict is not Verdict.CERTIFIED
