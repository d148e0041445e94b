"""Inverses of constant matrices: enclosed, checked, and layers that are parametrised by them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from vocabulary import assert_same_function

from deqops.verify import Verdict, certify, check
from deqops.verify._inverse import enclosed_inverse
from deqops.verify._midrad import MidRad
from deqops.verify.checker import _arithmetic as ball

DOUBLE = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def exact_inverse(matrix: Tensor) -> list[list[Fraction]] | None:
    """By elimination in rational numbers; None for a singular matrix."""
    n = len(matrix)
    rows = [
        [Fraction(x) for x in row] + [Fraction(int(i == k)) for k in range(n)] for i, row in enumerate(matrix.tolist())
    ]
    for column in range(n):
        pivot = next((row for row in range(column, n) if rows[row][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        rows[column] = [x / rows[column][column] for x in rows[column]]
        for row in range(n):
            if row != column and rows[row][column]:
                rows[row] = [x - rows[row][column] * y for x, y in zip(rows[row], rows[column], strict=True)]
    return [row[n:] for row in rows]


@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([1e-8, 1e-3, 1.0]))
def test_the_enclosure_holds_the_rational_inverse_and_is_narrow(seed: int, n: int, near: float) -> None:
    """`near` moves the matrix towards a singular one."""
    matrix = normal(n, n, seed=seed)
    matrix[-1] = matrix[0] + near * matrix[-1] if n > 1 else matrix[-1]
    truth, found = exact_inverse(matrix), enclosed_inverse(MidRad.exact(matrix))
    if truth is None or found is None:
        assert near < 1.0 or truth is None
        return
    own = ball.inverse(ball.exact(matrix))
    largest = max(abs(x) for row in truth for x in row)
    for i, row in enumerate(truth):
        for k, entry in enumerate(row):
            off = abs(entry - Fraction(float(found.mid[i, k])))
            assert off <= Fraction(float(found.rad[i, k]))
            assert own[i, k].contains(ball.arb(entry.numerator) / entry.denominator)
    condition = float(largest) * float(matrix.abs().sum(1).max())
    assert float(found.rad.max()) <= 1e-14 * n**2 * condition * float(largest)


def test_the_enclosure_holds_the_inverse_of_every_matrix_in_it() -> None:
    middle, radius = torch.stack([normal(5, 5, seed=k) + 8 * torch.eye(5) for k in range(3)]), 1e-3
    found = enclosed_inverse(MidRad(middle, torch.full_like(middle, radius)))
    assert found is not None
    for seed in range(50):
        share = 2 * torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE) - 1
        inverse = torch.linalg.inv(middle + radius * share)
        assert bool(((inverse - found.mid).abs() <= found.rad).all())
    assert float(found.rad.max()) < 0.1


@pytest.mark.parametrize(
    "matrix",
    [
        torch.zeros(2, 2, dtype=DOUBLE),
        torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=DOUBLE),
        torch.tensor([[0.1, 0.3], [0.3, 0.9 + 2**-52]], dtype=DOUBLE),
        torch.tensor([[1.0, torch.inf], [0.0, 1.0]], dtype=DOUBLE),
    ],
)
def test_nothing_is_said_of_what_may_be_singular(matrix: Tensor) -> None:
    assert enclosed_inverse(MidRad.exact(matrix)) is None
    assert enclosed_inverse(MidRad(torch.eye(2, dtype=DOUBLE), torch.ones(2, 2, dtype=DOUBLE))) is None


NEAR = torch.ones(4, 4, dtype=DOUBLE) + 2.0**-52 * torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=DOUBLE))
W, V = normal(4, 4) / 4, normal(4, 3, seed=1)
EYE = torch.eye(4, dtype=DOUBLE)
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "inv": lambda z: z @ torch.linalg.inv(EYE + W),
    "inverse": lambda z: z @ torch.inverse(EYE + W),
    "inv_ex": lambda z: z @ torch.linalg.inv_ex(EYE + W).inverse,
    "solve": lambda z: z @ torch.linalg.solve(EYE + W, V),
    "solve from the right": lambda z: z @ torch.linalg.solve(EYE + W, V.T, left=False).T,
    "solve for one vector": lambda z: z + torch.linalg.solve(EYE + W, V[:, 0]),
    "solve for the state": lambda z: torch.linalg.solve(EYE + W, z.mT).mT,
    "solve for the state's vectors": lambda z: torch.linalg.solve((EYE + W).expand(2, 4, 4), z),
    "triangles": lambda z: z @ torch.linalg.solve_triangular(EYE + W, V, upper=True),
    "triangles from the right": lambda z: torch.linalg.solve_triangular(EYE + W, z, upper=False, left=False),
    "triangles with ones": lambda z: z @ torch.linalg.solve_triangular(W, V, upper=False, unitriangular=True),
    "powers": lambda z: z @ torch.linalg.matrix_power(EYE + W, 3) + z @ torch.matrix_power(EYE + W, -2),
}


@pytest.mark.parametrize("name", list(FORMS))
def test_the_same_function_as_torchs(name: str) -> None:
    assert_same_function(FORMS[name], normal(2, 4, seed=3))


class Cayley(nn.Module):
    """`0.95 tanh(Q z + b)`, Q = (I - S)^-1 (I + S) orthogonal for every skew S."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.A, self.b = nn.Parameter(normal(n, n)), nn.Parameter(normal(n, seed=1))

    def forward(self, z: Tensor) -> Tensor:
        skew, eye = self.A - self.A.T, torch.eye(len(self.A), dtype=z.dtype)
        return 0.95 * torch.tanh(z @ torch.linalg.solve(eye - skew, eye + skew).T + self.b)


def test_picard_a_layer_with_cayleys_transform_is_certified_everywhere() -> None:
    module, z = Cayley(12).eval(), normal(2, 12)
    certificate = certify(module, z)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.rate == pytest.approx(0.95, abs=1e-9)
    assert check(certificate, module, z).accepted


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda z: torch.linalg.solve(EYE[None] + 0.1 * torch.diag_embed(z), z), "linalg_solve"),
        (lambda z: z @ torch.linalg.inv(NEAR), "nonsingular"),
        (lambda z: z * (torch.linalg.inv_ex(0 * W).info != 0), "linalg_inv_ex"),
        (lambda z: z @ torch.linalg.matrix_power(W, 100), "matrix_power"),
    ],
)
def test_what_is_refused(function: Callable[[Tensor], Tensor], why: str) -> None:
    certificate = certify(function, normal(1, 4))
    assert certificate.verdict is Verdict.UNKNOWN
    assert why in certificate.reason
