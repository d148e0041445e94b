"""Products with an operator's derivative: from the graph of an evaluation where they are right, else forward."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deqops import InputError, NewtonKrylov, Solution, Tolerance, solve
from deqops._derivative import agree, backward_product, forward_product
from tests.test_equation import in_place

DOUBLE = torch.float64
Map = Callable[[Tensor], Tensor]
W = 0.8 * torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=DOUBLE))[0]
B = torch.randn(3, 6, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


class Once(torch.autograd.Function):
    """sin, whose backward pass torch cannot differentiate."""

    @staticmethod
    def forward(z: Tensor) -> Tensor:
        return torch.sin(z)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g * torch.cos(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx: Any, t: Tensor) -> Tensor:
        return t * torch.cos(ctx.saved_tensors[0])


def held(z: Tensor) -> Tensor:
    """Part of it without gradients: backward passes do not see that part."""
    with torch.no_grad():
        part = torch.sin(z @ W)
    return 0.5 * part + 0.1 * z + B


def refusing(z: Tensor) -> Tensor:
    if z.requires_grad:
        raise RuntimeError("not with gradients")
    return torch.tanh(z @ W + B)


def through_numpy(z: Tensor) -> Tensor:
    return 0.5 * torch.from_numpy(z.numpy()) + B


def counted(G: Map) -> tuple[Map, list[int]]:
    calls = [0]

    def g(z: Tensor) -> Tensor:
        calls[0] += 1
        return G(z)

    return g, calls


def newton(G: Map, **settings: Any) -> Solution:
    with torch.no_grad():
        return solve(
            G,
            torch.zeros(3, 6, dtype=DOUBLE),
            solver=NewtonKrylov(forcing=1e-10),
            tolerance=Tolerance(relative=1e-12),
            **settings,
        )


@pytest.mark.parametrize(
    "G",
    [
        lambda z: torch.tanh(z @ W + B),
        lambda z: torch.relu(z @ W) * torch.sigmoid(z) + B,
        lambda z: nn.functional.layer_norm(z @ W + B, (6,)),
        lambda z: torch.softmax(z, dim=1) @ W + torch.cat([z[:, 3:], z[:, :3].square()], dim=1),
    ],
    ids=["tanh", "gated", "layer norm", "softmax"],
)
def test_both_ways_say_the_same(G: Map) -> None:
    z, v = (torch.randn(3, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed)) for seed in (2, 3))
    product = backward_product(G, z)
    assert product is not None
    backward, forward = product(v), forward_product(G, z, v)
    assert backward is not None
    assert torch.allclose(backward, forward, rtol=1e-12, atol=1e-12)
    assert agree(forward, backward, v)


def test_operations_in_place_are_recorded_and_the_point_stays_as_it_was() -> None:
    z, v = torch.randn(2, 3, dtype=DOUBLE), torch.randn(2, 3, dtype=DOUBLE)
    kept = z.clone()
    product = backward_product(in_place, z)
    assert product is not None
    moved = product(v)
    assert moved is not None
    assert torch.allclose(moved, forward_product(in_place, z, v), atol=1e-12)
    assert torch.equal(z, kept)


def test_most_products_call_no_operator() -> None:
    """One call for each point, one for its graph, one for the forward product of the first."""
    G, calls = counted(lambda z: torch.tanh(z @ W + B))
    found = newton(G)
    assert calls[0] <= 2 * 6 + 1
    assert int(found.evaluations.max()) > calls[0] + 6


@pytest.mark.parametrize(
    "G", [held, refusing, lambda z: 0.5 * Once.apply(z) + B], ids=["held", "refusing", "once differentiable"]
)
def test_where_a_backward_pass_is_wrong_or_missing_products_are_forward(G: Map) -> None:
    """The derivative is the whole one: Newton's steps are as few as for any other layer."""
    g, calls = counted(G)
    found = newton(g)
    assert torch.allclose(found.value, G(found.value), atol=1e-11)
    assert calls[0] >= int(found.evaluations.max())
    assert int(found.evaluations.max()) <= 50


def test_an_operator_beyond_torch_is_solved_by_picards_steps() -> None:
    found = newton(through_numpy, max_evaluations=500)
    assert torch.allclose(found.value, 2 * B, atol=1e-9)


def without_forward(wrong: bool) -> Map:
    """`z / 2 + b` with a backward pass alone, which may be that of another map."""

    class Opaque(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            return 0.5 * z + B

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            return (2.0 if wrong else 0.5) * gradients[0]

    return Opaque.apply


def test_without_a_forward_derivative_products_come_from_graphs_that_the_images_confirm() -> None:
    G, calls = counted(without_forward(wrong=False))
    found = newton(G)
    assert torch.allclose(found.value, 2 * B, atol=1e-11)
    assert calls[0] <= int(found.evaluations.max()) + 3  # what failed, and the images that confirm
    with pytest.raises(InputError, match=r"no forward derivative .*Anderson"):
        newton(without_forward(wrong=True))


def test_products_of_sparse_matrices_have_no_forward_derivative() -> None:
    A = (0.4 * torch.eye(3, dtype=DOUBLE) + 0.1).to_sparse()
    found = newton(lambda z: torch.tanh(torch.sparse.mm(A, z)) + B, batch_dims=0)
    assert torch.allclose(found.value, torch.tanh(A.to_dense() @ found.value) + B, atol=1e-11)
    assert int(found.evaluations) < 60


@pytest.mark.parametrize("error", [ZeroDivisionError, type("Own", (RuntimeError,), {})])
def test_a_fault_of_the_operator_is_its_own(error: type[Exception]) -> None:
    """Not tried again: it may not come a second time."""
    calls = 0

    def faulty(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        return 0.5 * z

    with pytest.raises(error):
        newton(faulty)
    assert calls == 1


def test_a_checkpoint_around_a_solve_keeps_nothing_of_its_graphs() -> None:
    """Its hooks would compute everything anew where a product is taken."""
    layer, calls = nn.Linear(6, 6).double(), [0]
    with torch.no_grad():
        layer.weight.copy_(W)

    def G(z: Tensor, x: Tensor) -> Tensor:
        calls[0] += 1
        return torch.tanh(layer(z) + x)

    def value(x: Tensor) -> Tensor:
        found = solve(G, torch.zeros_like(x), x, solver=NewtonKrylov(), tolerance=Tolerance(relative=1e-11))
        return found.value

    gradients = []
    for run in (value, lambda x: checkpoint(value, x, use_reentrant=False)):
        calls[0] = 0
        layer.zero_grad()
        result = run(B)
        assert calls[0] <= 20
        result.square().sum().backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-9, atol=1e-12)


def test_an_operator_that_fills_its_own_tensor_is_refused() -> None:
    """And what the caller gave with a graph keeps that."""
    buffer = torch.zeros(2, 3, 6, dtype=DOUBLE)
    for _ in range(3):
        with pytest.raises(InputError, match="writes into"):
            newton(lambda z: buffer[0].copy_(torch.tanh(z @ W + B)))
    weight = W.clone().requires_grad_()
    given = 2 * weight
    newton(lambda z: given[:3])
    assert weight.requires_grad
    assert given.grad_fn is not None


def test_what_is_not_a_number_confirms_nothing() -> None:
    v, nan = torch.ones(2, 3), torch.full((2, 3), torch.nan)
    assert not agree(v, nan, v)
    assert not agree(nan, nan, v)
    assert not agree(0 * v, 0 * v, v)
    assert agree(torch.stack([v[0], nan[0]]), torch.stack([v[0], nan[0]]), v)
    assert not agree(v, torch.stack([v[0], nan[0]]), v)


def test_nothing_is_left_of_the_graphs() -> None:
    layer, kept = nn.Linear(6, 6).double(), list[weakref.ref[Tensor]]()
    with torch.no_grad():
        layer.weight.copy_(W)

    def G(z: Tensor) -> Tensor:
        image = torch.tanh(layer(z))
        kept.append(weakref.ref(image))
        return image

    found = newton(G)
    gc.collect()
    assert layer.weight.grad is None
    assert not found.value.requires_grad
    assert not any(image() is not None and image() is not found.value for image in kept)


def test_problems_that_are_dropped_on_the_way_change_nothing() -> None:
    """Their products' graph is that of an evaluation of those that are left."""
    b = torch.cat([B, torch.zeros(9, 6, dtype=DOUBLE)])
    tolerance = Tolerance(relative=1e-12)
    with torch.no_grad():
        found = solve(
            lambda z, b: torch.tanh(z @ W + b),
            torch.zeros_like(b),
            b,
            batched=("problem",),
            solver=NewtonKrylov(forcing=1e-10),
            tolerance=tolerance,
        )
    assert torch.allclose(found.value[:3], newton(lambda z: torch.tanh(z @ W + B)).value, atol=1e-12)
    assert found.evaluations[3:].tolist() == [1] * 9
