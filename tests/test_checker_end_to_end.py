"""What `certify` proves of real modules, `check` accepts; and no longer after the smallest change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import deqops.testing as kit
from deqops.testing import assert_accepted, signed
from deqops.verify import Ball, Certificate, Norm, Verdict, certify, check


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed))


class Layer(nn.Module):
    """`s(W z + U x + b)`."""

    def __init__(self, activation: nn.Module, gain: float, size: int = 8) -> None:
        super().__init__()
        self.inner, self.outer, self.activation = nn.Linear(size, size), nn.Linear(5, size), activation
        with torch.no_grad():
            weight = random(size, size, seed=3)
            self.inner.weight.copy_(weight * (gain / torch.linalg.matrix_norm(weight, 2)))
            self.inner.bias.copy_(random(size, seed=4))
            self.outer.weight.copy_(random(size, 5, seed=5))
            self.outer.bias.copy_(random(size, seed=6))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return self.activation(self.inner(z) + self.outer(x))


class TwoLayers(nn.Module):
    """`z / 4 + W_2 gelu(W_1 z + b) / 4 + x`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 10), nn.Linear(10, 6, bias=False)
        with torch.no_grad():
            for linear, seed in ((self.first, 1), (self.second, 2)):
                linear.weight.copy_(random(*linear.weight.shape, seed=seed) / 5)
            self.first.bias.copy_(random(10, seed=3))

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return 0.25 * z + 0.25 * self.second(torch.nn.functional.gelu(self.first(z))) + x


class Tree(nn.Module):
    """A state of two leaves."""

    def forward(self, state: dict[str, Tensor], x: Tensor) -> dict[str, Tensor]:
        return {
            "a": torch.tanh(0.5 * state["b"] + x),
            "b": 0.25 * state["a"].flip(-1) - 0.5 * torch.relu(state["b"]),
        }


class Graph(nn.Module):
    """`tanh(GCNConv(z) + x)`, the features' norm below 1."""

    def __init__(self, gain: float = 0.95, size: int = 4) -> None:
        from torch_geometric.nn import GCNConv

        super().__init__()
        self.convolution = GCNConv(size, size)
        with torch.no_grad():
            weight = random(size, size, seed=7)
            self.convolution.lin.weight.copy_(weight * (gain / torch.linalg.matrix_norm(weight, 2)))

    def forward(self, z: Tensor, x: Tensor, edge_index: Tensor) -> Tensor:
        return torch.tanh(self.convolution(z, edge_index) + x)


def edges(nodes: int) -> Tensor:
    ring = torch.arange(nodes - 1)
    pairs = torch.stack([ring, ring + 1])
    pairs = torch.cat([pairs, torch.tensor([[0, 2], [5, 8]])], 1)
    return torch.cat([pairs, pairs.flip(0)], 1)


def certified(G: Any, *arguments: Any, batch_dims: int = 1, **options: Any) -> Certificate:
    certificate = certify(G, *arguments, batch_dims=batch_dims, **options)
    assert certificate.verdict is Verdict.CERTIFIED, certificate.explain()
    kit.assert_accepted(certificate, G, *arguments)
    return certificate


ACTIVATIONS = [
    nn.Tanh(),
    nn.ReLU(),
    nn.Sigmoid(),
    nn.Softplus(),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.SiLU(),
    nn.Mish(),
]
ACTIVATIONS += [nn.LeakyReLU(0.1), nn.ELU(), nn.Hardtanh(), nn.ReLU6()]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_layers_of_every_activation(activation: nn.Module) -> None:
    layer, z, x = Layer(activation, 0.8), torch.zeros(3, 8), random(3, 5)
    certified(layer, z, x, norm="l2", theorem="picard")


@pytest.mark.parametrize("norm", ["l2", "weighted_l1", "weighted_l2", "weighted_linf", "linf", "l1"])
def test_two_layers_with_a_residual_branch_in_every_norm(norm: str) -> None:
    certified(TwoLayers(), torch.zeros(3, 6), random(3, 6), norm=norm, theorem="picard")


@pytest.mark.parametrize("theorem", ["auto", "damped"])
def test_claims_of_convergence(theorem: str) -> None:
    certified(TwoLayers(), torch.zeros(2, 6), random(2, 6), theorem=theorem, damping=0.5)


@pytest.mark.parametrize("norm", ["l2", "linf", "l1"])
def test_a_tree_of_states(norm: str) -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)}
    weights = (torch.full((3,), 1.0, dtype=torch.float64), torch.full((3,), 1.3, dtype=torch.float64))
    certified(Tree(), state, random(2, 3), norm=Norm(norm, weights), theorem="picard")  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["l2", "weighted_linf", "weighted_l1", "weighted_l2"])
def test_message_passing(norm: str) -> None:
    gain = 0.95 if norm.endswith("l2") else 0.4
    model, nodes = Graph(gain), 9
    arguments = torch.zeros(nodes, 4), random(nodes, 4), edges(nodes)
    certificate = certified(model, *arguments, batch_dims=0, norm=norm, theorem="picard")
    if norm == "l2":
        assert certificate.rate is not None
        assert certificate.rate < 0.95 + 1e-6
    other = arguments[2].clone()
    other[0, 0] = 3
    assert not check(certificate, model, *arguments[:2], other).accepted


@pytest.mark.parametrize("norm", ["l2", "linf", "l1", "weighted_linf"])
@pytest.mark.parametrize("activation", [nn.GELU(), nn.Tanh(), nn.SiLU()], ids=str)
def test_local_claims(norm: str, activation: nn.Module) -> None:
    layer, x = Layer(activation, 0.5, size=6).double(), random(2, 5).double()
    z = torch.zeros(2, 6, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(300):
            z = 0.5 * z + 0.5 * layer(z, x)
    certified(layer, z, x, norm=norm, region=Ball(z, 1e-3), theorem="local_picard")


def test_two_layers_locally() -> None:
    model, x = TwoLayers().double(), random(2, 6).double()
    z = torch.zeros(2, 6, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(100):
            z = model(z, x)
    for norm in ("l2", "linf", "l1"):
        for radius in (1e-6, 0.1, 3.0):
            certified(model, z, x, norm=norm, region=Ball(z, radius), theorem="local_picard")


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_refutations(norm: str) -> None:
    layer, z, x = Layer(nn.ReLU(), 4.0), torch.zeros(3, 8), random(3, 5)
    certificate = certify(layer, z, x, norm=norm, theorem="picard")
    assert certificate.verdict is Verdict.REFUTED
    report = check(certificate, layer, z, x)
    assert report.accepted, report.reasons
    assert report.verdict == "refuted"


def test_rejects_after_each_change(tmp_path: Path) -> None:
    layer, z, x = Layer(nn.Tanh(), 0.8), torch.zeros(3, 8), random(3, 5)
    certificate = certified(layer, z, x, norm="l2", theorem="picard")
    path = tmp_path / "certificate.json"
    certificate.save(path)
    assert_accepted(path, layer, z, x)
    assert check(path, layer, z, 2 * x).accepted  # x is free
    for inputs in ((), (x, x), (x.double(),), (x[:2],), (x[:, :4],), (None,), ("x",)):
        assert not check(path, layer, z, *inputs).accepted, inputs
    for state in (z.double(), z[:2], z[:, :4], [z], {"z": z}, None):
        report = check(path, layer, state, x)
        assert not report.accepted or isinstance(state, list | dict)
    document = certificate.document()
    lowered = (float(certificate.rate or 0) * (1 - 1e-9)).hex()
    edits: list[dict[str, Any]] = [
        {"rate": lowered},
        {"rate": lowered, "evidence": {"kind": "lipschitz", "bound": lowered}, "hypotheses": []},
        {"rate": (1.0).hex()},
        {"model": {"fingerprint": "0" * 64}},
        {"theorem": "damped"},
        {"verdict": "refuted"},
    ]
    for edit in edits:
        kit.assert_rejected(signed(document | edit), layer, z, x)
    with torch.no_grad():
        entry = layer.inner.bias[0]
        entry.copy_(torch.nextafter(entry, torch.tensor(math.inf)))
    assert "fingerprint" in check(path, layer, z, x).reasons[0]


@settings(max_examples=60)
@given(kit.lies(operators=kit.CONTRACTING))
def test_no_lie_about_a_contraction_is_accepted(lie: kit.Lie) -> None:
    kit.assert_rejected(lie.document, lie.known.operator, lie.known.start, *lie.known.inputs)


@settings(max_examples=20)
@given(kit.expansions(("linear", "activation", "graph", "convolution")), st.integers(0, 1))
def test_t9_refutations_are_accepted_and_not_for_two_equal_points(known: kit.Known, place: int) -> None:
    options: dict[str, Any] = {"theorem": "picard", "norm": known.norm, "batch_dims": known.batch_dims}
    certificate = certify(known.operator, known.start, *known.inputs, **options)
    assert certificate.verdict is Verdict.REFUTED
    kit.assert_accepted(certificate, known.operator, known.start, *known.inputs)
    document = certificate.document()
    if document["evidence"]["kind"] == "two_points":
        names = ("first", "second")
        document["evidence"][names[place]] = document["evidence"][names[1 - place]]
        kit.assert_rejected(signed(document), known.operator, known.start, *known.inputs)
    kit.assert_rejected(signed(document | {"verdict": "certified"}), known.operator, known.start, *known.inputs)


def test_a_batch_that_mixes_problems_is_rejected() -> None:
    layer, z, x = Layer(nn.Tanh(), 0.5), torch.zeros(3, 8), random(3, 5)

    class Mixing(nn.Module):
        def forward(self, state: Tensor) -> Tensor:
            return 0.25 * state + 0.25 * state.mean(0, keepdim=True)

    certificate = certified(Mixing(), torch.zeros(3, 8), batch_dims=0, norm="l2", theorem="picard")
    report = check(signed(certificate.document() | {"batch_dims": 1}), Mixing(), torch.zeros(3, 8))
    assert not report.accepted
    assert "mixes" in report.reasons[0]
    assert not check(certificate, layer, z, x).accepted


def test_dropout_in_training_mode_is_rejected() -> None:
    layer = nn.Sequential(Layer(nn.Tanh(), 0.5), nn.Dropout(0.5))

    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.dropout = layer[0], layer[1]

        def forward(self, z: Tensor, x: Tensor) -> Tensor:
            return self.dropout(self.layer(z, x))

    model, z, x = Dropped().eval(), torch.zeros(3, 8), random(3, 5)
    certificate = certified(model, z, x, norm="l2", theorem="picard")
    assert not check(certificate, model.train(), z, x).accepted
