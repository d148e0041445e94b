"""Lemma `slopes`: every bound of the Jacobian expression holds for the true Jacobian, and is not vacuous."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from zoo import Case, Module, cases, randn

from deqops.graph import trace
from deqops.verify import Ball, Norm, lipschitz_bound
from deqops.verify._gains import lipschitz_gain
from deqops.verify._problem import Problem

ZOO = cases()
ORDERS = {"l1": 1, "l2": 2, "linf": float("inf")}
# How far the composition bound may lie above the largest Jacobian norm seen at sampled points.
LOOSE = {
    "tanh": 1.6,
    "two layers": 4.0,
    "gelu": 1.5,
    "left matmul": 3.0,
    "shapes": 2.0,
    "mean": 2.1,
    "residual": 1.3,
}


def problem_jacobian(case: Case, z: Tensor) -> Tensor:
    """The Jacobian of problem 0, or of the whole state."""
    module, _, inputs, batch_dims = case

    def one(y: Tensor) -> Tensor:
        full = torch.cat([y[None], z[1:]]) if batch_dims else y
        image: Tensor = module(full, *inputs)
        return (image[0] if batch_dims else image).reshape(-1)

    start = z[0] if batch_dims else z
    jacobian: Tensor = torch.autograd.functional.jacobian(one, start).reshape(start.numel(), start.numel())
    return jacobian


def points(case: Case) -> list[Tensor]:
    z = case[1]
    return [
        torch.zeros_like(z),
        *[randn(*z.shape, seed=s, scale=c) for s, c in ((11, 0.01), (12, 0.1), (13, 1), (14, 10))],
    ]


@pytest.mark.parametrize("name", list(ZOO))
@pytest.mark.parametrize("order", list(ORDERS))
def test_global_bound_holds_and_is_not_vacuous(name: str, order: str) -> None:
    case = ZOO[name]
    bound = lipschitz_bound(case[0], case[1], *case[2], norm=order, batch_dims=case[3])
    seen = max(float(torch.linalg.matrix_norm(problem_jacobian(case, p), ORDERS[order])) for p in points(case))
    assert seen <= float(bound) * (1 + 1e-12)
    if name not in ("sigmoid gate",):  # there the bound is over all problems, the sample over one
        assert float(bound) <= LOOSE.get(name, 1.2) * seen * (2.5 if order != "l2" else 1)


@pytest.mark.parametrize("name", list(ZOO))
@pytest.mark.parametrize("order", list(ORDERS))
@pytest.mark.parametrize("radius", [1e-3, 0.3])
def test_local_bound_holds_on_the_ball_and_is_below_the_global_one(name: str, order: str, radius: float) -> None:
    case = ZOO[name]
    center = randn(*case[1].shape, seed=21)
    ball = Ball(center, radius)
    arguments = (case[0], case[1], *case[2])
    local = float(lipschitz_bound(*arguments, norm=order, region=ball, batch_dims=case[3]))
    globally = float(lipschitz_bound(*arguments, norm=order, batch_dims=case[3]))
    inside = []
    for seed in range(5):
        step = randn(*center.shape, seed=30 + seed)
        length = step[0].norm(p=ORDERS[order]) if case[3] else step.norm(p=ORDERS[order])
        if case[3]:
            step = step / step.norm(p=ORDERS[order], dim=1, keepdim=True)
            length = torch.ones(())
        inside.append(center + radius * step / length)
    seen = max(float(torch.linalg.matrix_norm(problem_jacobian(case, p), ORDERS[order])) for p in [center, *inside])
    assert seen <= local * (1 + 1e-12)
    assert local <= globally * (1 + 1e-12)


@pytest.mark.parametrize("order", ["l1", "l2", "linf"])
def test_weighted_norms_against_the_scaled_jacobian(order: str) -> None:
    case = ZOO["tanh"]
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25, 8.0], dtype=torch.float64)
    norm = Norm(order, (weights,))  # type: ignore[arg-type]
    bound = float(lipschitz_bound(case[0], case[1], *case[2], norm=norm))
    jacobian = case[0].w.detach().T  # slopes at 0 are 1
    scaled = weights[:, None] * jacobian / weights[None, :]
    truth = float(torch.linalg.matrix_norm(scaled, ORDERS[order]))
    assert truth * (1 - 1e-12) <= bound <= truth * (1 + 1e-9)


def test_weighted_l2_of_a_residual_branch_cancels_on_the_identity() -> None:
    case = ZOO["residual"]
    weights = torch.tensor([0.5, 1.0, 2.0, 4.0, 0.25, 8.0], dtype=torch.float64)
    norm = Norm("l2", (weights,))
    bound = lipschitz_gain(Problem(trace(case[0], case[1], *case[2]), case[1], case[2]).jacobian, norm, 1).upper
    jacobian = case[0].w.detach().T
    scaled = weights[:, None] * jacobian / weights[None, :]
    assert bound == pytest.approx(0.5 + 0.25 * float(torch.linalg.matrix_norm(scaled, 2)), rel=1e-9)
    assert lipschitz_bound(case[0], case[1], *case[2], norm=norm).upper <= bound


def test_purely_linear_sums_are_merged_before_the_norm_is_taken() -> None:
    case = ZOO["linear sum"]
    truth = float(torch.linalg.matrix_norm(0.3 * torch.eye(6, dtype=torch.float64) - case[0].w.detach().T, 2))
    assert float(lipschitz_bound(case[0], case[1], *case[2])) == pytest.approx(truth, rel=1e-10)


def test_message_passing_is_one_matrix() -> None:
    """PyG's gather, scaling and scatter become the normalised adjacency, of norm 1, not a product of norms."""
    case = ZOO["gcn"]
    weight = case[0].conv.lin.weight.detach()  # type: ignore[union-attr]
    expected = 0.5 * float(torch.linalg.matrix_norm(weight, 2))
    assert float(lipschitz_bound(case[0], case[1], *case[2], batch_dims=0)) == pytest.approx(expected, rel=1e-9)


def test_saturated_units_count_with_their_own_slope() -> None:
    """Locally the slopes multiply the rows of W: a saturated row with a large norm does not cost."""
    w = torch.diag(torch.tensor([5.0, 0.5], dtype=torch.float64))
    module = Module(lambda m, z: torch.tanh(z @ m.w), w=w)
    center = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    bound = float(lipschitz_bound(module, center, region=Ball(center, 0.01)))
    assert 0.5 <= bound <= 0.501
