"""T5 (b) `log_norm`: where the logarithmic norm of all slope matrices is below 1, damped iteration contracts."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deqops import InputError
from deqops.testing import Layer, assert_accepted
from deqops.verify import Ball, Certificate, Converges, Norm, Verdict, certify, check
from deqops.verify._document import digest

SLOPES = {torch.relu: (0, 1), torch.tanh: (0, 1), torch.abs: (-1, 1)}
Rows = list[list[Fraction]]


def arguments(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.zeros(2, n, dtype=torch.float64), torch.randn(2, n, generator=g, dtype=torch.float64)


def fractions(tensor: Tensor) -> Rows:
    return [[Fraction(x) for x in row] for row in tensor.tolist()]


def damped_constant(W: Rows, b: Fraction, ends: tuple[int, int], w: list[Fraction], order: str) -> Fraction:
    """The largest norm of `(1 - b) I + b S W` over the vertices of the box of slopes, exactly."""
    n, largest = len(W), Fraction(0)
    for slopes in itertools.product(ends, repeat=n):
        M = [[(i == j) * (1 - b) + b * slopes[i] * W[i][j] for j in range(n)] for i in range(n)]
        sizes = [[abs(M[i][j]) * w[i] / w[j] for j in range(n)] for i in range(n)]
        lines = sizes if order == "linf" else [list(column) for column in zip(*sizes, strict=True)]
        largest = max(largest, *(sum(line, Fraction(0)) for line in lines))
    return largest


def weights_of(certificate: Certificate) -> list[Fraction]:
    assert certificate.norm is not None
    assert certificate.norm.weights is not None
    return [Fraction(x) for x in certificate.norm.weights[0].tolist()]


dyadic = st.integers(-64, 64).map(lambda k: k / 32)


@st.composite
def stable_matrices(draw: st.DrawFn) -> Tensor:
    """A diagonal that is often far below zero."""
    n = draw(st.integers(1, 4))
    rows = [[draw(dyadic) for _ in range(n)] for _ in range(n)]
    for i in range(n):
        rows[i][i] = -draw(st.integers(0, 640)) / 32
    return torch.tensor(rows, dtype=torch.float64)


@given(stable_matrices(), st.sampled_from(sorted(SLOPES, key=str)), st.sampled_from(["linf", "l1"]))
def test_t5_log_norm_bounds_the_damped_iteration(W: Tensor, activation: Any, order: str) -> None:
    layer, (state, x) = Layer(W.double(), activation), arguments(len(W))
    certificate = certify(layer, state, x, theorem="log_norm", norm=f"weighted_{order}")
    if certificate.verdict is not Verdict.CERTIFIED:
        return
    assert isinstance(certificate.claim, Converges)
    assert certificate.rate is not None
    b = Fraction(certificate.claim.damping)
    constant = damped_constant(fractions(W), b, SLOPES[activation], weights_of(certificate), order)
    assert constant <= Fraction(certificate.rate) < 1
    assert_accepted(certificate, layer, state, x)


@pytest.mark.parametrize("order", ["linf", "l1"])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_t5_log_norm_certifies_what_does_not_contract(order: str, n: int) -> None:
    """Diagonal -20, off-diagonal rows and columns of sum at most 0.9: mu is 0.9 of one end, G expands 20 times."""
    g = torch.Generator().manual_seed(n)
    off = torch.rand(n, n, generator=g, dtype=torch.float64).fill_diagonal_(0)
    off = 0.9 * off / max(float(off.sum(0).max()), float(off.sum(1).max()))
    layer, (state, x) = Layer((off - 20 * torch.eye(n)).double(), "tanh"), arguments(n)
    assert certify(layer, state, x, theorem="picard", norm=order).verdict is Verdict.REFUTED
    certificate = certify(layer, state, x, theorem="log_norm", norm=f"weighted_{order}")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.evidence is not None
    assert certificate.evidence.numbers["mu"] <= 0.9 + 1e-9
    assert certificate.evidence.numbers["least"] == pytest.approx(-20, rel=1e-9)
    assert isinstance(certificate.claim, Converges)
    assert certificate.claim.damping == pytest.approx(1 / 21, rel=1e-9)
    assert_accepted(certificate, layer, state, x)


def test_auto_reaches_it_and_its_iteration_and_errors_hold() -> None:
    W = torch.tensor([[-8.0, 0.5], [0.25, -4.0]])
    layer, (state, x) = Layer(W.double(), "relu"), arguments(2, 3)
    certificate = certify(layer, state, x)
    assert certificate.theorem == "log_norm"
    assert isinstance(certificate.claim, Converges)
    assert certificate.rate is not None
    b, rows = Fraction(certificate.claim.damping), fractions(W)
    for problem in range(2):
        c = [Fraction(v) for v in x[problem].tolist()]

        def image(y: list[Fraction], c: list[Fraction] = c) -> list[Fraction]:
            return [
                max(Fraction(0), sum(w * v for w, v in zip(row, y, strict=True)) + s)
                for row, s in zip(rows, c, strict=True)
            ]

        y = [Fraction(3), Fraction(-2)]
        for _ in range(300):
            y = [round(((1 - b) * v + b * g) * 2**200) / Fraction(2**200) for v, g in zip(y, image(y), strict=True)]
        assert max(abs(v - g) for v, g in zip(y, image(y), strict=True)) < Fraction(1, 10**12)
        start = torch.zeros(2, 2, dtype=torch.float64)
        bound = certificate.error_bound(layer, start, x)
        assert Fraction(float(bound.linf[problem])) >= max(map(abs, y)) - Fraction(1, 10**9)


def test_pointwise_is_not_enough_and_a_damping_may_be_too_large() -> None:
    state, x = arguments(1)
    softplus = Layer(torch.ones(1, 1).double(), "softplus")  # mu(J(y)) < 1 at every y, no equilibrium
    assert certify(softplus, state, x, theorem="log_norm").verdict is Verdict.UNKNOWN
    steep = Layer(torch.full((1, 1), -9.0).double(), "relu")
    assert certify(steep, state, x, theorem="log_norm", damping=0.0999).verdict is Verdict.CERTIFIED
    assert certify(steep, state, x, theorem="log_norm", damping=0.11).verdict is Verdict.UNKNOWN


def test_arguments_that_do_not_fit() -> None:
    layer, (state, x) = Layer((-torch.eye(3)).double(), "relu"), arguments(3)
    with pytest.raises(InputError, match="l1 and its weighted forms"):
        certify(layer, state, x, theorem="log_norm", norm="l2")
    with pytest.raises(InputError, match="holds globally"):
        certify(layer, state, x, theorem="log_norm", region=Ball(state, 1.0))
    with pytest.raises(InputError, match="weights of shape"):
        certify(layer, state, x, theorem="log_norm", norm=Norm("l1", (torch.ones(4, dtype=torch.float64),)))


def test_files_and_numbers_made_better(tmp_path: Path) -> None:
    layer, (state, x) = Layer(torch.tensor([[-8.0, 0.5], [0.25, -4.0]]).double(), "relu"), arguments(2)
    certificate = certify(layer, state, x, theorem="log_norm")
    certificate.save(tmp_path / "c.json")
    again = Certificate.load(tmp_path / "c.json")
    assert again.document() == certificate.document()
    assert_accepted(tmp_path / "c.json", layer, state, x)
    for change in (better("rate", 0.99), better("mu", -1.0), better("factor", 0.5), better("least", 1.0), faster):
        document = certificate.document()
        change(document)
        document["digest"] = digest(document)
        assert not check(document, layer, state, x).accepted
    document = certificate.document()
    document["claim"], document["hypotheses"] = {"kind": "unique_equilibrium", "region": document["region"]}, []
    for rate, holds in ((document["rate"], False), ((0.0).hex(), False), (None, True)):
        document["rate"] = rate
        document["digest"] = digest(document)
        assert check(document, layer, state, x).accepted is holds


def better(name: str, change: float) -> Callable[[dict[str, Any]], None]:
    def spoil(document: dict[str, Any]) -> None:
        entry = document if name == "rate" else document["evidence"]
        value = float.fromhex(entry[name])
        entry[name] = (value + change if name in ("mu", "least") else value * change).hex()
        document["hypotheses"] = []

    return spoil


def faster(document: dict[str, Any]) -> None:
    document["claim"]["iteration"]["damping"] = (0.5).hex()
    document["hypotheses"] = []
