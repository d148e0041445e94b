"""Wrong shapes and dtypes, NaN and infinity, and graphs at the edge: a clear refusal or a true answer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deqops import ConvergenceError, DeqopsError, EquilibriumLayer, InputError, Picard, Result, solve
from deqops.models import PIGN
from deqops.testing import assert_accepted
from deqops.verify import Ball, Verdict, certify, check, lipschitz_bound

BAD = [float("nan"), float("inf"), float("-inf")]


class Layer(nn.Module):
    def __init__(self, gain: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(gain * torch.eye(3, dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.tanh(z @ self.weight.T + x + self.bias)


def arguments() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 3, dtype=torch.float64), torch.full((2, 3), 0.25, dtype=torch.float64)


# ------------------------------------------------------------------------------------------- NaN and infinity


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_weights_that_are_not_finite_are_never_certified_nor_refuted(bad: float, name: str) -> None:
    layer, (state, x) = Layer(), arguments()
    with torch.no_grad():
        getattr(layer, name).view(-1)[0] = bad
    with pytest.raises(InputError, match=name):
        certify(layer, state, x)
    with pytest.raises(InputError, match=name):
        lipschitz_bound(layer, state, x, norm="l2")


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("place", ["state", "input"])
def test_states_and_inputs_that_are_not_finite_are_refused(bad: float, place: str) -> None:
    layer, (state, x) = Layer(), arguments()
    (state if place == "state" else x)[0, 0] = bad
    with pytest.raises(InputError, match="NaN or infinity"):
        certify(layer, state, x)


@pytest.mark.parametrize("bad", BAD)
def test_a_solve_says_nonfinite_and_spares_the_companions(bad: float) -> None:
    layer, (state, x) = Layer(), arguments()
    x[0, 0] = bad
    found = solve(layer, state, x, solver=Picard(), throw=False)
    expected = Result.NONFINITE if bad != bad else found.result[0]
    assert found.result[0] == expected
    assert found.result[1] == Result.CONVERGED
    alone = solve(layer, state[1:], x[1:], solver=Picard())
    assert torch.equal(found.value[1:], alone.value)
    if bad != bad:
        with pytest.raises(ConvergenceError):
            solve(layer, state, x, solver=Picard())


@pytest.mark.parametrize("bad", BAD)
def test_a_start_that_is_not_finite_is_refused(bad: float) -> None:
    layer, (state, x) = Layer(), arguments()
    state[1, 2] = bad
    with pytest.raises(InputError, match="y0"):
        solve(layer, state, x)


@pytest.mark.parametrize("bad", BAD)
def test_no_error_is_bounded_for_a_state_that_is_not_finite(bad: float) -> None:
    layer, (state, x) = Layer(), arguments()
    certificate = certify(layer, state, x)
    state[0, 0] = bad
    with pytest.raises(InputError, match="NaN"):
        certificate.error_bound(layer, state, x)


@pytest.mark.parametrize("bad", BAD)
def test_a_ball_around_nothing_is_refused(bad: float) -> None:
    layer, (state, x) = Layer(), arguments()
    with pytest.raises(InputError):
        certify(layer, state, x, region=Ball(torch.full_like(state, bad), 1.0))
    with pytest.raises(InputError, match="radius"):
        Ball(state, bad if bad != float("-inf") else -1.0)


def test_a_problem_that_failed_has_no_gradient_and_leaves_the_others_theirs() -> None:
    layer, (state, x) = Layer(), arguments()
    x[0, 0] = float("nan")
    x.requires_grad_()
    value = solve(layer, state, x, solver=Picard(), throw=False).value
    (found,) = torch.autograd.grad(value[1].sum(), x, retain_graph=True)
    alone = x.detach()[1:].requires_grad_()
    (truth,) = torch.autograd.grad(solve(layer, state[1:], alone, solver=Picard()).value.sum(), alone)
    assert torch.allclose(found[1:], truth)
    assert bool((torch.autograd.grad(value[0].sum(), x)[0][1:] == 0).all())


# ------------------------------------------------------------------------------------------- shapes and dtypes


@pytest.mark.parametrize(
    ("state", "x"),
    [
        (torch.zeros(2, 4).double(), torch.zeros(2, 3).double()),
        (torch.zeros(2, 3).double(), torch.zeros(5, 3).double()),
        (torch.zeros(()).double(), torch.zeros(2, 3).double()),
        (torch.zeros(2, 3), torch.zeros(2, 3).double()),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3).double()),
        (torch.zeros(2, 3, dtype=torch.complex128), torch.zeros(2, 3).double()),
        ("text", torch.zeros(2, 3).double()),
        (None, torch.zeros(2, 3).double()),
        ([], torch.zeros(2, 3).double()),
    ],
    ids=["width", "batch", "scalar", "float32", "integers", "complex", "text", "nothing", "empty tree"],
)
def test_what_does_not_fit_is_refused_by_solve_and_certify(state: Any, x: Any) -> None:
    for attempt in (lambda: certify(Layer(), state, x), lambda: solve(Layer(), state, x)):
        with pytest.raises(DeqopsError) as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1


def test_a_certificate_does_not_speak_of_other_shapes() -> None:
    layer, (state, x) = Layer(), arguments()
    certificate = certify(layer, state, x)
    other = torch.zeros(3, 3, dtype=torch.float64)
    with pytest.raises(InputError):
        certificate.error_bound(layer, other, other)
    assert not check(certificate, layer, other, other).accepted


def test_an_empty_batch_is_refused_by_solve_and_certify() -> None:
    empty = torch.zeros(0, 3, dtype=torch.float64)
    with pytest.raises(InputError, match="holds no numbers"):
        solve(Layer(), empty, empty)
    with pytest.raises(InputError, match="holds no numbers"):
        certify(Layer(), empty, empty)


# -------------------------------------------------------------------------------------------------- graphs

GRAPHS = {
    "no edges": (4, []),
    "isolated nodes": (5, [(0, 1), (1, 0)]),
    "self-loops": (3, [(0, 0), (1, 1), (0, 1), (1, 0)]),
    "duplicate edges": (3, [(0, 1), (0, 1), (0, 1), (1, 0), (1, 0), (1, 0), (1, 2), (2, 1)]),
    "one node": (1, []),
    "a star": (7, [(0, k) for k in range(1, 7)] + [(k, 0) for k in range(1, 7)]),
}


def operator_norm(model: PIGN, x: Tensor, edges: Tensor) -> float:
    """The l2 norm of the exact Jacobian of a propagation operator, in float64."""
    start = model.initial_state(x, edges)
    size = start.numel()
    with torch.no_grad():
        offset = model.operator(start, x, edges)
        columns = [
            (model.operator(unit.reshape(start.shape), x, edges) - offset).reshape(-1)
            for unit in torch.eye(size, dtype=torch.float64)
        ]
    return float(torch.linalg.matrix_norm(torch.stack(columns, dim=1), 2))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_rate_is_right_on_graphs_at_the_edge(name: str) -> None:
    """Theorem `picard` on `Z = f(X) + 0.75 A Z`: the rate is at least the exact norm, and not far above it."""
    nodes, pairs = GRAPHS[name]
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    x = torch.randn(nodes, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PIGN(3, 2, operator="propagation", limit=0.75).double().eval()
    start = model.initial_state(x, edges)
    certificate = certify(model.operator, start, x, edges, batch_dims=0, norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate is not None
    truth = operator_norm(model, x, edges)
    assert truth * (1 - 1e-12) <= certificate.rate <= truth + 1e-6
    value = model.layer.solve(x, edges).value
    assert float(certificate.error_bound(model.operator, value.detach(), x, edges).l2) < 1.0
    assert_accepted(certificate, model.operator, start, x, edges)


def test_a_graph_without_nodes_is_refused_in_one_line() -> None:
    model = PIGN(3, 2, operator="propagation").eval()
    x, edges = torch.zeros(0, 3), torch.zeros(2, 0, dtype=torch.int64)
    for attempt in (
        lambda: certify(model.operator, model.initial_state(x, edges), x, edges, batch_dims=0),
        lambda: model(x, edges),
    ):
        with pytest.raises(DeqopsError) as caught:
            attempt()
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("edge", [(0, 9), (-9, 0)])
def test_an_edge_to_a_node_that_is_not_there_is_refused(edge: tuple[int, int]) -> None:
    model = PIGN(3, 2, operator="propagation").eval()
    x, edges = torch.zeros(4, 3), torch.tensor([[0, edge[0]], [1, edge[1]]])
    with pytest.raises(InputError):
        certify(model.operator, model.initial_state(x, edges), x, edges, batch_dims=0)


def test_a_layer_on_features_that_are_nan_raises() -> None:
    layer = EquilibriumLayer(Layer(), solver=Picard())
    with pytest.raises(ConvergenceError, match=r"NaN|finite"):
        layer(torch.full((2, 3), float("nan"), dtype=torch.float64))


def test_a_ball_without_a_norm_takes_the_claims_norm_when_it_is_refuted_in_weights() -> None:
    """The refutation of a weighted claim on a plain ball could not be written to a file."""
    state = torch.zeros(1, 2, dtype=torch.float64)
    certificate = certify(lambda z: 2 * z, state, norm="weighted_linf", region=Ball(state, 1.0), theorem="local_picard")
    assert certificate.verdict is Verdict.REFUTED
    assert certificate.document()["region"]["norm"]["order"] == "linf"
    assert_accepted(certificate, lambda z: 2 * z, state)
