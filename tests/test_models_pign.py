"""PIGN: the operator equation it solves, the baseline without iteration, and the projection of its weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deqops import InputError, Picard, Tolerance
from deqops.models import PIGN, project_spectral_norm_
from deqops.verify import Verdict, certify

EDGES = torch.tensor([[0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3]])


def network(relative: float = 1e-10, **options: float) -> PIGN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PIGN(3, 2, channels=4, tolerance=Tolerance(relative=relative), **options)  # type: ignore[arg-type]
    return model.double().eval()


def features() -> Tensor:
    return torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def propagation() -> Tensor:
    """The symmetrically normalised adjacency with self loops, dense."""
    adjacency = torch.eye(4, dtype=torch.float64)
    adjacency[EDGES[1], EDGES[0]] = 1
    degree = adjacency.sum(dim=1)
    return adjacency / (degree[:, None] * degree[None, :]).sqrt()


def dense_operator(model: PIGN, state: Tensor, x: Tensor) -> Tensor:
    """`f(X) + tanh(A Z W^T + b)` written out."""
    f, convolution = model.operator.f, model.operator.T.convolution  # type: ignore[union-attr]
    encoded = torch.tanh(x @ f.hidden.weight.T + f.hidden.bias) @ f.output.weight.T + f.output.bias
    return encoded + torch.tanh(propagation() @ state @ convolution.lin.weight.T + convolution.bias)


def test_the_operator_is_the_documented_equation() -> None:
    model, x = network(), features()
    state = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model.operator(state, x, EDGES), dense_operator(model, state, x))


def test_the_state_is_the_equilibrium() -> None:
    model, x = network(), features()
    state = model.state(x, EDGES).detach()
    torch.testing.assert_close(dense_operator(model, state, x), state, rtol=0, atol=1e-8)


def test_the_smoothing_factor_changes_the_way_not_the_equilibrium() -> None:
    x = features()
    damped, plain = network(relative=1e-7, solver=Picard(damping=0.5)), network()  # type: ignore[arg-type]
    torch.testing.assert_close(damped.state(x, EDGES), plain.state(x, EDGES), rtol=0, atol=1e-5)


def test_without_iteration_the_operator_is_applied_once_to_the_encoding() -> None:
    model, x = network(steps=1), features()
    encoded = model.operator.f(x, EDGES)  # type: ignore[operator, misc]
    torch.testing.assert_close(model.state(x, EDGES), dense_operator(model, encoded, x))


def test_gradients_pass_through_the_equilibrium() -> None:
    model, x = network(), features()
    weight = model.operator.T.convolution.lin.weight  # type: ignore[union-attr]
    (gradient,) = torch.autograd.grad(model(x, EDGES).sum(), weight)
    step, direction = 1e-5, torch.ones_like(weight)
    with torch.no_grad():
        weight.add_(step * direction)
        above = model(x, EDGES).sum()
        weight.sub_(2 * step * direction)
        below = model(x, EDGES).sum()
    assert float((gradient * direction).sum()) == pytest.approx(float(above - below) / (2 * step), rel=1e-5)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.05, 3.0), st.integers(0, 2**20))
def test_the_projection_limits_singular_values_and_leaves_the_small_ones(
    rows: int, columns: int, limit: float, seed: int
) -> None:
    weight = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    before = torch.linalg.svdvals(weight)
    project_spectral_norm_(weight, limit)
    torch.testing.assert_close(torch.linalg.svdvals(weight), before.clamp(max=limit), rtol=1e-12, atol=1e-12)


def test_a_small_weight_is_left_alone_bit_for_bit() -> None:
    weight = 0.1 * torch.eye(3)
    before = weight.clone()
    project_spectral_norm_(weight, 0.9)
    assert torch.equal(weight, before)


@pytest.mark.parametrize(("option", "value"), [("channels", 0), ("limit", 0.0), ("limit", float("nan")), ("steps", -1)])
def test_numbers_out_of_range_are_named(option: str, value: float) -> None:
    options = {"channels": 4, option: value}
    with pytest.raises(InputError, match=option):
        PIGN(3, 2, **options)  # type: ignore[arg-type]


def propagating(**options: float) -> PIGN:
    return network(operator="propagation", **options)  # type: ignore[arg-type]


def encoded(model: PIGN, x: Tensor) -> Tensor:
    f = model.operator.f
    return torch.relu(x @ f.hidden) @ f.output.weight.T  # type: ignore[union-attr, operator, no-any-return]


def test_propagation_is_the_documented_equation() -> None:
    model, x = propagating(limit=0.8), features()
    state = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = encoded(model, x) + 0.8 * propagation() @ state
    torch.testing.assert_close(model.operator(state, x, EDGES), expected)


def test_propagation_solves_the_linear_system() -> None:
    model, x = propagating(limit=0.8), features()
    exact = torch.linalg.solve(torch.eye(4).double() - 0.8 * propagation(), encoded(model, x))
    torch.testing.assert_close(model(x, EDGES), exact, rtol=0, atol=1e-8)


def test_gradients_of_propagation_are_those_of_the_linear_system() -> None:
    model, x = propagating(limit=0.8), features()
    weights = list(model.parameters())
    exact = torch.linalg.solve(torch.eye(4).double() - 0.8 * propagation(), encoded(model, x))
    found = torch.autograd.grad(model(x, EDGES).square().sum(), weights)
    for gradient, truth in zip(found, torch.autograd.grad(exact.square().sum(), weights), strict=True):
        torch.testing.assert_close(gradient, truth, rtol=1e-6, atol=1e-8)


def test_a_node_without_features_adds_nothing_of_its_own() -> None:
    model = propagating()
    assert bool((model.operator.f(torch.zeros(4, 3).double(), EDGES) == 0).all())  # type: ignore[operator, misc]


def test_sparse_features_give_the_same_scores() -> None:
    x = torch.where(features() > 0, features(), 0.0)
    for model in (propagating(), network()):
        torch.testing.assert_close(model(x.to_sparse().coalesce(), EDGES), model(x, EDGES))


def test_smoothed_unrolled_steps_approach_the_equilibrium() -> None:
    x = features()
    unrolled, solved = propagating(limit=0.8, steps=200, smoothing=0.5), propagating(limit=0.8)
    torch.testing.assert_close(unrolled(x, EDGES), solved(x, EDGES), rtol=0, atol=1e-7)
    one = propagating(limit=0.8, steps=1, smoothing=0.5)
    start = encoded(one, x)
    torch.testing.assert_close(one(x, EDGES), 0.5 * start + 0.5 * (start + 0.8 * propagation() @ start))


def test_a_free_convolution_keeps_its_weight() -> None:
    model = network(limit=float("inf"))
    weight = model.operator.T.convolution.lin.weight  # type: ignore[union-attr]
    before = weight.detach().mul_(3).clone()
    model.project_()
    assert torch.equal(weight, before)


def test_propagation_is_certified_at_its_limit() -> None:
    """Theorem `picard`: the rate is the limit, up to the enclosure of ||A||_2 <= 1."""
    model, x = propagating(limit=0.875), features()
    certificate = certify(model.operator, model.initial_state(x, EDGES), x, EDGES, batch_dims=0, norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    assert 0.875 * float(torch.linalg.eigvalsh(propagation())[-1]) * (1 - 1e-12) <= certificate.rate <= 0.875 + 1e-9


def test_dropout_acts_in_training_mode_alone() -> None:
    model, x = propagating(dropout=0.5), features()
    torch.testing.assert_close(model(x, EDGES), model(x, EDGES), rtol=0, atol=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = model.train()(x, EDGES)
    assert not torch.allclose(trained, model.eval()(x, EDGES))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"operator": "nonsense"}, "operator"),
        ({"operator": "propagation", "limit": float("inf")}, "limit"),
        ({"smoothing": 0.0}, "smoothing"),
        ({"smoothing": 1.5}, "smoothing"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, float], name: str) -> None:
    with pytest.raises(InputError, match=name):
        PIGN(3, 2, **options)  # type: ignore[arg-type]


WRONG: dict[str, list[Any]] = {
    "features": [2.5, 0, "5", None],
    "classes": [2.5, 0, "3", True],
    "channels": [2.5, 0, "a", None],
    "limit": ["a", None, 0, float("nan")],
    "steps": [1.5, -1, "a", None],
    "smoothing": ["x", None, 0, 2],
    "dropout": ["x", None, 1, -0.5],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_option_of_the_wrong_kind_is_named(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name}: got "):
        PIGN(**{"features": 5, "classes": 3, name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("operator", ["convolution", "propagation"])
@pytest.mark.parametrize("steps", [0, 2])
def test_features_of_another_width_are_named(operator: str, steps: int) -> None:
    model = PIGN(5, 3, operator=operator, steps=steps)
    for shape in ((2, 4), (4,), (1, 2, 5)):
        with pytest.raises(InputError, match=r"^x: got shape .* \(nodes, 5\)"):
            model(torch.zeros(shape), torch.tensor([[0, 1], [1, 0]]))
