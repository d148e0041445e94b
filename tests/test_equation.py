"""Products with an operator's derivative: of any operator, counted for the problems that want them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deqops import InputError, Tolerance
from deqops._equation import Equation
from deqops._loop import iterate
from deqops._solver import NewtonKrylov
from deqops._tree import StateLayout

DOUBLE = torch.float64
ALL = torch.ones(2, dtype=torch.bool)


def in_place(z: Tensor) -> Tensor:
    z.mul_(2).tanh_()
    out = torch.zeros_like(z)
    out[:, :2] = z[:, 1:] * z[:, 1:]
    return out.index_add_(1, torch.tensor([0]), z[:, :1])


def test_operations_in_place_and_the_point_stays_as_it_was() -> None:
    z, v = torch.randn(2, 3, dtype=DOUBLE), torch.randn(2, 3, dtype=DOUBLE)
    kept, way = z.clone(), v.clone()
    product = Equation(in_place).jvp(z, v, ALL)
    step = 1e-6
    difference = (in_place(z + step * v) - in_place(z - step * v)) / (2 * step)
    assert torch.equal(z, kept)
    assert torch.equal(v, way)
    assert torch.allclose(product, difference, atol=1e-8)


def test_trees_of_several_dtypes() -> None:
    start = {"a": torch.randn(2, 1, dtype=DOUBLE), "b": [torch.randn(2, 2)]}
    layout = StateLayout.of(start, 1)

    def G(y: dict[str, Any]) -> dict[str, Any]:
        return {"a": y["a"] * y["b"][0].sum(1, keepdim=True).double(), "b": [torch.sin(y["b"][0])]}

    z = layout.rows(start)
    v = torch.randn(2, 3)
    product = Equation(lambda rows: layout.rows(G(layout.state(rows)))).jvp(z, v, ALL)
    first = v[:, :1] * z[:, 1:].sum(1, keepdim=True) + z[:, :1] * v[:, 1:].sum(1, keepdim=True)
    assert product.dtype == z.dtype
    assert torch.allclose(product, torch.cat([first, torch.cos(z[:, 1:]) * v[:, 1:]], dim=1), atol=1e-6)


def test_no_dependence_is_the_product_zero() -> None:
    z = torch.ones(2, 3)
    assert torch.equal(Equation(lambda _: torch.ones(2, 3)).jvp(z, z, ALL), torch.zeros(2, 3))


def test_only_wanted_products_count() -> None:
    equation = Equation(torch.cos)
    for wanted in (ALL, torch.tensor([False, True])):
        equation.jvp(torch.ones(2, 3), torch.ones(2, 3), wanted)
    assert equation.extra is not None
    assert equation.extra.tolist() == [1, 2]


def test_an_operation_without_forward_derivative_is_told() -> None:
    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            return z.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return 3 * gradients[0]  # not what the images say

    with pytest.raises(InputError, match=r"no forward derivative .*Anderson"):
        Equation(Opaque.apply).jvp(torch.ones(2, 3), torch.ones(2, 3), ALL)


def test_the_loop_says_what_is_left_and_what_is_enough() -> None:
    told: list[tuple[list[int], list[float]]] = []

    class Spending(NewtonKrylov):
        def prepared(self, equation: Equation) -> Any:
            class Told:
                def init(self, z: Tensor) -> None:
                    return None

                def step(self, memory: Any, z: Tensor, image: Tensor) -> tuple[Tensor, Any]:
                    assert equation.left is not None
                    assert equation.goal is not None
                    told.append((equation.left.tolist(), equation.goal(torch.ones(2)).tolist()))
                    equation.jvp(z, z, equation.left > 1)
                    return image, None

            return Told()

    start = torch.tensor([[1.0, 2.0], [0.0, 0.0]], dtype=DOUBLE)
    tolerance = Tolerance(absolute=0.25, relative=0.5)
    state = iterate(lambda z: -z, start, solver=Spending(), tolerance=tolerance, max_evaluations=6)
    assert told == [([5, 0], [0.75, 0.75]), ([3, 0], [0.75, 0.75]), ([1, 0], [0.75, 0.75])]
    assert state.evaluations.tolist() == [6, 1]
