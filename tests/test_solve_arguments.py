"""What `solve` accepts and refuses: states of every shape and dtype, and one line for each mistake."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import deqops
from deqops import Anderson, Broyden, ImplicitAdjoint, InputError, OperatorEquation, Picard, Tolerance, solve

HALF = [torch.float16, torch.bfloat16]
ONE = torch.ones(1, 2)


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
@pytest.mark.parametrize("solver", [Picard(), Anderson(), Broyden()], ids=repr)
def test_every_floating_dtype(dtype: torch.dtype, solver: deqops.Solver) -> None:
    tolerance = Tolerance(relative=8 * torch.finfo(dtype).eps)
    start = torch.zeros(3, 400, dtype=dtype)
    solution = solve(lambda z: torch.cos(z) / 2 + 100, start, solver=solver, tolerance=tolerance)
    assert solution.value.dtype == dtype
    # sqrt(400) * 100 = 2000: its square is beyond float16, the norm is not computed there
    assert solution.residual.dtype == (torch.float32 if dtype in HALF else dtype)
    assert solution.residual.isfinite().all()
    exact = torch.tensor(100.0, dtype=torch.float64)
    for _ in range(60):
        exact = torch.cos(exact) / 2 + 100
    close = 20 * torch.finfo(dtype).eps * 100
    assert (solution.value.double() - exact).abs().max() < close


def test_norms_do_not_overflow_or_underflow() -> None:
    for scale in (1e30, 1e-30):
        solution = solve(lambda z, s=scale: 0.5 * z + s, torch.zeros(2, 50), solver=Picard())
        assert torch.allclose(solution.value, torch.tensor(2 * scale), rtol=1e-4)


def test_tree_of_leaves_of_several_shapes_and_dtypes() -> None:
    start = {
        "a": torch.zeros(2, 3, dtype=torch.float64),
        "b": (torch.zeros(2), torch.zeros(2, 1, 4, dtype=torch.float16)),
    }

    def G(y: Any) -> Any:
        a, (b, c) = y["a"], y["b"]
        return {
            "a": 0.5 * torch.cos(a + b.double()[:, None]),
            "b": ((0.25 * a.sum(1)).float(), c / 4 + b.half()[:, None, None]),
        }

    solution = solve(G, start, tolerance=Tolerance(relative=1e-3))
    image = G(solution.value)
    assert solution.value["a"].dtype == torch.float64
    assert solution.value["b"][1].dtype == torch.float16
    assert solution.value["b"][1].shape == (2, 1, 4)
    assert torch.allclose(image["a"], solution.value["a"], atol=1e-2)
    assert torch.allclose(image["b"][1], solution.value["b"][1], atol=1e-2)


def test_points_are_what_the_leaves_can_hold() -> None:
    """With leaves of two dtypes the point G was given is the point the residual belongs to."""
    seen: list[Any] = []

    def G(y: Any) -> Any:
        seen.append(y)
        return y[0] / 3 + 1, y[1] / 3 + 1

    start = (torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.float64))
    solution = solve(G, start)
    gap = [(v.double() - z.double()).flatten() for v, z in zip(solution.value, seen[-1], strict=True)]
    assert torch.allclose(solution.residual, torch.linalg.vector_norm(torch.cat(gap)), rtol=1e-12)


def test_batch_dims_0_is_one_problem_of_any_shape() -> None:
    graph = solve(lambda z: z / 2 + 1, torch.zeros(5, 3), batch_dims=0)
    assert graph.evaluations.shape == (1,)
    assert graph.value.shape == (5, 3)
    scalar = solve(torch.cos, torch.tensor(1.0), batch_dims=0)
    assert abs(float(scalar.value) - 0.7390851) < 1e-4


@pytest.mark.parametrize("solver", [Picard(), Anderson()])
def test_a_graph_that_the_operator_records_ends_with_each_evaluation(solver: deqops.Solver) -> None:
    """A gradient step on an energy: its image has a graph, gradients enabled around or not."""
    seen = []

    def G(z: Tensor) -> Tensor:
        seen.append(z.requires_grad)
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad((leaf**2 / 2 - leaf).sum(), leaf, create_graph=True)
            return leaf - slope / 2

    with torch.no_grad():
        value = solve(G, torch.zeros(1, 2), solver=solver).value
    assert not value.requires_grad
    assert not any(seen)
    torch.testing.assert_close(value, torch.ones(1, 2))


def test_a_leaf_without_numbers_is_carried_along() -> None:
    solution = solve(lambda y: (y[0] / 2 + 1, y[1]), (torch.zeros(2, 3), torch.zeros(2, 0)))
    assert solution.value[1].shape == (2, 0)


@pytest.mark.parametrize(
    ("state", "batch_dims", "message"),
    [
        ([], 1, "y0: it holds no numbers"),
        (torch.zeros(0, 3), 1, "y0: it holds no numbers"),
        (torch.zeros(2, 3, dtype=torch.int64), 1, "y0: every leaf must hold real floating numbers, got torch.int64"),
        (torch.zeros(2, 3, dtype=torch.complex64), 1, "got torch.complex64"),
        (torch.zeros(2, 3, dtype=torch.float8_e5m2), 1, "must hold real floating numbers, got torch.float8_e5m2"),
        (torch.zeros(2, 3).to_sparse(), 1, "y0: every leaf must be a dense tensor that holds numbers"),
        (torch.zeros(2, 3).to_mkldnn(), 1, "got layout torch._mkldnn on device cpu; make it one"),
        (torch.zeros(2, 3, device="meta"), 1, "got layout torch.strided on device meta; make it one"),
        (
            torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
            1,
            "got a nested one; make it one",
        ),
        ([ONE, 3.0], 1, "y0: every leaf must be a tensor, got float"),
        (torch.tensor(1.0), 1, "say batch_dims=0"),
        ((torch.zeros(2, 1), torch.zeros(3, 1)), 1, r"batches of different sizes [2, 3]"),
        (torch.full((2, 2), torch.nan), 1, "y0: it holds NaN or infinity"),
        (ONE, 2, "batch_dims: got 2"),
        (ONE, True, "batch_dims: got True"),
    ],
)
def test_bad_states_are_refused_by_name(state: Any, batch_dims: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        solve(lambda z: z, state, batch_dims=batch_dims)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (lambda z: z[:, :1], "G: it maps a state of shape (1, 2) to shape (1, 1); return (1, 2)"),
        (lambda z: z.double(), "G: it maps a torch.float32 state to torch.float64"),
        (lambda z: z.to_sparse(), "G: it returned a tensor of layout torch.sparse_coo; return a dense one"),
        (lambda z: (z, z), "G: it maps a state of structure"),
        (lambda z: 1.0, "G: it returned a float where a tensor is expected"),
    ],
)
def test_an_operator_that_changes_the_structure_is_refused_at_once(image: Any, message: str) -> None:
    calls: list[Tensor] = []

    def G(z: Tensor) -> Any:
        calls.append(z)
        return image(z)

    with pytest.raises(InputError, match=re.escape(message)):
        solve(G, ONE)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Picard(0.0), "damping: a finite number above 0 is needed, got 0.0"),
        (lambda: Picard(-0.5), "damping"),
        (lambda: Picard(1e39), "damping: a finite number above 0 is needed, got 1e+39 (at most 3.4e+38)"),
        (lambda: Picard(float("nan")), "damping"),
        (lambda: Anderson(memory=0), "memory: a whole number of at least 1 is needed, got 0"),
        (lambda: Anderson(memory=2.5), "memory"),  # type: ignore[arg-type]
        (lambda: Anderson(damping=float("inf")), "damping"),
        (lambda: Broyden(memory=0), "memory: a whole number of at least 1 is needed, got 0"),
        (lambda: Broyden(memory=True), "memory: a whole number of at least 1 is needed, got True"),
        (lambda: Broyden(damping=0.0), "damping: a finite number above 0 is needed, got 0.0"),
        (lambda: Anderson(regularization=1.0), "regularization"),
        (lambda: Anderson(regularization=0.0), "regularization"),
        (lambda: Tolerance(relative=-1e-3), "relative: a tolerance must be finite and not negative"),
        (lambda: Tolerance(absolute=float("nan")), "absolute"),
        (lambda: Tolerance(relative="small"), "relative"),  # type: ignore[arg-type]
        (lambda: Tolerance(error=1e-3), "error: a proven error needs certificate="),
        (lambda: Tolerance(certificate="c.json"), "certificate: an object with error_bound"),  # type: ignore[arg-type]
        (lambda: ImplicitAdjoint(max_evaluations=0), "max_evaluations"),
        (lambda: ImplicitAdjoint(derivatives=0), "derivatives"),
        (lambda: solve(torch.cos, ONE, max_evaluations=0), "max_evaluations"),
        (lambda: solve(torch.cos, ONE, solver=Anderson), "solver: an object like Anderson() is needed"),  # type: ignore[arg-type]
        (lambda: solve(torch.cos, ONE, adjoint="implicit"), "adjoint"),  # type: ignore[arg-type]
        (lambda: solve(torch.cos, ONE, tolerance=1e-5), "tolerance"),  # type: ignore[arg-type]
        (lambda: solve(3.0, ONE), "G: a callable"),  # type: ignore[arg-type]
        (lambda: OperatorEquation(1.0), "T: a callable"),  # type: ignore[arg-type]
        (lambda: OperatorEquation(torch.cos, f=2.0), "f: a tensor, a callable"),  # type: ignore[arg-type]
        (lambda: OperatorEquation(torch.cos, scale=float("nan")), "scale: a finite number"),
    ],
)
def test_bad_settings_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_misspelt_options_are_errors() -> None:
    with pytest.raises(TypeError, match="max_iter"):
        solve(torch.cos, ONE, max_iter=3)  # type: ignore[call-arg]
