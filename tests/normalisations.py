"""Layer and RMS norms and their derivatives in balls, by the quotient rule."""

from __future__ import annotations

from typing import Any

from flint import arb


def normalised(x: list[Any], eps: float, centred: bool) -> tuple[list[Any], Any]:
    """The normalised entries and s, in balls."""
    n = len(x)
    m = sum(x, arb(0)) / n if centred else arb(0)
    s = 1 / (sum(((t - m) ** 2 for t in x), arb(0)) / n + arb(eps)).sqrt()
    return [s * (t - m) for t in x], s


def derivative(x: list[Any], eps: float, centred: bool) -> list[list[Any]]:
    """`s (C - h h^T / n)` by the quotient rule, in balls."""
    n, (h, s) = len(x), normalised(x, eps, centred)
    shift = arb(1) / n if centred else arb(0)
    return [[s * ((i == j) - shift - h[i] * h[j] / n) for j in range(n)] for i in range(n)]
