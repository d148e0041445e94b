"""Weights that torch's own normalisations compute: a verdict, checked, and true of exactly those weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from flint import arb, ctx
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from deqops.graph import trace
from deqops.verify import Verdict, certify, check, lipschitz_bound, spectral_norm_bound
from deqops.verify._enclosures import Constants
from deqops.verify.checker._values import Values

DOUBLE = torch.float64


def legacy(wrap: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    def wrapped(layer: nn.Module, **options: Any) -> nn.Module:
        with pytest.warns(FutureWarning, match="deprecated"):
            return wrap(layer, **options)

    return wrapped


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "spectral": lambda: parametrizations.spectral_norm(nn.Linear(4, 4)),
    "spectral in float64": lambda: parametrizations.spectral_norm(nn.Linear(4, 4, dtype=DOUBLE)),
    "spectral, hook": lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
    "weight": lambda: parametrizations.weight_norm(nn.Linear(4, 4)),
    "weight of columns": lambda: parametrizations.weight_norm(nn.Linear(4, 4), dim=1),
    "weight of everything": lambda: parametrizations.weight_norm(nn.Linear(4, 4), dim=None),
    "weight, hook": lambda: legacy(nn.utils.weight_norm)(nn.Linear(4, 4)),
}
every_wrap = pytest.mark.parametrize("name", WRAPPED)


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return WRAPPED[name]().eval()


class Step(nn.Module):
    def __init__(self, layer: nn.Module, gain: float = 0.6) -> None:
        super().__init__()
        self.layer, self.gain = layer, gain

    def forward(self, z: Tensor) -> Tensor:
        return self.gain * torch.tanh(self.layer(z))


@every_wrap
def test_t1_a_wrapped_layer_is_certified_by_the_weight_that_it_computes(name: str) -> None:
    step = Step(made(name), gain=0.35)
    z = torch.zeros(2, 4, dtype=step.layer.bias.dtype)
    step(z)  # the hooks compute their weight in the forward pass
    certificate = certify(step, z, theorem="picard", norm="l2")
    size = 0.35 * float(torch.linalg.svdvals(step.layer.weight.detach().double())[0])
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate == pytest.approx(size, rel=1e-5)
    assert check(certificate, step, z).accepted


def test_a_wrapped_convolution_is_certified_and_checked() -> None:
    torch.manual_seed(0)
    for wrap in (parametrizations.spectral_norm, parametrizations.weight_norm):
        step = Step(wrap(nn.Conv1d(2, 2, 3, padding=1)).eval(), gain=0.4)
        z = torch.zeros(1, 2, 6)
        certificate = certify(step, z, theorem="picard", norm="l2")
        assert certificate.verdict is Verdict.CERTIFIED
        assert check(certificate, step, z).accepted


@pytest.mark.parametrize("orthogonal_map", ["matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("mode", [True, False])
def test_an_orthogonal_weight_is_taken_as_it_is_now(orthogonal_map: str, mode: bool) -> None:
    """The factorisation is no part of the graph: its result is the constant, and the model still trains."""
    torch.manual_seed(0)
    step = Step(parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map=orthogonal_map), gain=0.5).train(mode)
    z = torch.zeros(1, 4)
    certificate = certify(step, z, theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.rate == pytest.approx(0.5, rel=1e-5)
    assert check(certificate, step, z).accepted
    step(z + 1).sum().backward()
    original = step.layer.parametrizations.weight.original
    assert original.grad is not None
    with torch.no_grad():
        original.add_(torch.tril(torch.ones(4, 4), -1))
    assert not check(certificate, step, z).accepted  # another weight


def test_in_train_mode_spectral_normalisation_is_no_fixed_map_and_says_why() -> None:
    step = Step(made("spectral")).train()
    certificate = certify(step, torch.zeros(1, 4), theorem="picard", norm="l2")
    assert certificate.verdict is Verdict.UNKNOWN
    assert "changes buffer" in certificate.reason
    assert "not known" not in certificate.reason


def test_a_result_written_into_an_argument_is_a_change_of_it() -> None:
    class Into(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            room = torch.zeros_like(z)
            half = torch.div(z, torch.full_like(z, 4.0), out=room)
            return half + room  # both are z / 4

    z = torch.tensor([[1.0, -3.0]])
    graph = trace(Into(), z)
    assert not graph.impure
    assert torch.equal(graph(z), z / 2)
    certificate = certify(Into(), z, theorem="picard", norm="linf")
    assert certificate.rate == pytest.approx(0.5)


# ------------------------------------------------------------------------------- the operations, in exact arithmetic


class Function(nn.Module):
    """z plus a function of constants, so that the function is folded."""

    def __init__(self, function: Callable[..., Tensor], *constants: Tensor) -> None:
        super().__init__()
        self.function = function
        for place, constant in enumerate(constants):
            self.register_buffer(f"constant_{place}", constant)
        self.count = len(constants)

    def forward(self, z: Tensor) -> Tensor:
        return z + self.function(*(getattr(self, f"constant_{place}") for place in range(self.count)))


def euclidean(values: list[float]) -> Any:
    return sum((arb(v) ** 2 for v in values), arb(0)).sqrt()


V = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
W = torch.randn(4, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
G = torch.tensor([[2.0], [-0.5], [1.0]], dtype=DOUBLE)
ROWS = [euclidean(row) for row in V.tolist()]
COLUMNS = [euclidean(column) for column in V.T.tolist()]
WHOLE = euclidean(V.flatten().tolist())
aten = torch.ops.aten
FOLDED: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...], list[Any]]] = {
    "vdot": (torch.vdot, (W, V[0]), [sum((arb(a) * arb(b) for a, b in zip(W.tolist(), V[0].tolist(), strict=True)))]),
    "matrix_H": (lambda v: v.H, (V,), [arb(v) for v in V.T.flatten().tolist()]),
    "mH": (lambda v: v.mH, (V,), [arb(v) for v in V.T.flatten().tolist()]),
    "vector_norm": (torch.linalg.vector_norm, (V,), [WHOLE]),
    "vector_norm of rows": (lambda v: torch.linalg.vector_norm(v, dim=-1), (V,), ROWS),
    "norm": (lambda v: aten.norm.Scalar(v, 2), (V,), [WHOLE]),
    "norm of rows": (lambda v: aten.norm.ScalarOpt_dim(v, 2, [1], True), (V,), ROWS),
    "norm_except_dim": (lambda v: aten.norm_except_dim(v, 2, 0), (V,), ROWS),
    "norm_except_dim last": (lambda v: aten.norm_except_dim(v, 2, 1), (V,), COLUMNS),
    "norm_except_dim none": (lambda v: aten.norm_except_dim(v, 2, -1), (V,), [WHOLE]),
    "weight_norm": (
        lambda v, g: torch._weight_norm(v, g, 0),
        (V, G),
        [arb(v) * arb(g) / n for row, g, n in zip(V.tolist(), G.flatten().tolist(), ROWS, strict=True) for v in row],
    ),
    "weight_norm interface": (
        lambda v, g: aten._weight_norm_interface(v, g, 0)[1],
        (V, G),
        ROWS,
    ),
}


@pytest.mark.parametrize("name", FOLDED)
def test_folded_values_contain_the_exact_ones_and_torchs(name: str) -> None:
    function, constants, truth = FOLDED[name]
    before, ctx.prec = ctx.prec, 200
    try:
        computed = function(*constants)
        step = Function(function, *constants)
        graph = trace(step, torch.zeros_like(computed), batch_dims=0).concrete(torch.zeros_like(computed))
        assert torch.allclose(
            trace(step, torch.zeros_like(computed), batch_dims=0)(torch.zeros_like(computed)), computed
        )
        (added,) = [node for node in graph.nodes if node.output == graph.outputs[0]]
        (value,) = [v for v in added.operands if v not in graph.state_dependent]
        enclosed, checked = Constants(graph).floating(value), Values(graph, None, frozenset()).balls(value)
        assert torch.allclose(enclosed.mid, computed)
        for mid, rad, ball, exact in zip(
            enclosed.mid.flatten().tolist(), enclosed.rad.flatten().tolist(), checked.reshape(-1), truth, strict=True
        ):
            assert abs(arb(mid) - exact) <= arb(rad) or (abs(arb(mid) - exact) - arb(rad)).contains(0)
            assert ball.overlaps(exact)
            assert rad <= 1e-14
    finally:
        ctx.prec = before


def test_other_orders_have_no_rule_and_no_bound() -> None:
    step = Function(lambda v: torch.linalg.vector_norm(v, ord=0.5), V)

    class Scaled(Function):
        def forward(self, z: Tensor) -> Tensor:
            return z * self.function(self.constant_0)

    z = torch.zeros(1, 4, dtype=DOUBLE)
    assert certify(Scaled(step.function, V), z, theorem="picard", norm="l2").verdict is Verdict.UNKNOWN


def test_a_weight_of_norm_zero_certifies_nothing() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 4))
    with torch.no_grad():
        layer.parametrizations.weight.original1.zero_()
    certificate = certify(Step(layer.eval()), torch.zeros(1, 4), theorem="picard", norm="l2")
    assert certificate.verdict is not Verdict.CERTIFIED


def test_the_bound_is_that_of_the_weight_as_it_is_rounded() -> None:
    """The exact v g / ||v|| and torch's float32 of it differ by rounding alone."""
    layer = made("weight")
    bound = lipschitz_bound(layer, torch.zeros(1, 4)).upper
    assert bound == pytest.approx(float(spectral_norm_bound(layer.weight.detach())), rel=1e-6)
