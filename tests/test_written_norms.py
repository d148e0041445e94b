"""Layer and RMS norms that a graph spells out are read as one operation: the same function, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from exact import seeded
from torch import Tensor

from deqops.graph import recognised, trace
from deqops.testing import assert_accepted
from deqops.verify import Verdict, certify
from deqops.verify._problem import Problem

Map = Callable[[Tensor], Tensor]
EPS = 1e-3


def deviation(z: Tensor, *dims: int) -> Tensor:
    return z - z.mean(dims, keepdim=True)


def var_mean(z: Tensor) -> Tensor:
    variance, mean = torch.var_mean(z, dim=-1, keepdim=True, correction=0)
    return (z - mean) * torch.rsqrt(variance + EPS)


RMS: dict[str, Map] = {
    "as language models write it": lambda z: z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + EPS),
    "in float64 between": lambda z: (z.double() * torch.rsqrt(z.double().pow(2).mean(-1, keepdim=True) + EPS)).to(z),
    "a root below": lambda z: z / torch.sqrt(EPS + (z * z).mean(-1, keepdim=True)),
    "a power": lambda z: (z.square().mean(-1, keepdim=True) + EPS) ** -0.5 * z,
    "one over a root": lambda z: z * (1 / torch.sqrt(z.square().mean(-1, keepdim=True) + EPS)),
    "a mean unsqueezed": lambda z: z * torch.rsqrt(z.square().mean(-1).unsqueeze(-1) + EPS),
    "over channels": lambda z: z / (z.pow(2).mean(1, keepdim=True) + EPS).sqrt(),
}
LAYER: dict[str, Map] = {
    "variance": lambda z: deviation(z, -1) / torch.sqrt(z.var(-1, keepdim=True, unbiased=False) + EPS),
    "variance and mean": var_mean,
    "unsqueezed": lambda z: (z - z.mean(-1).unsqueeze(-1)) / torch.sqrt(z.var(-1, unbiased=False).unsqueeze(-1) + EPS),
    "over channels": lambda z: deviation(z, 1) / torch.sqrt(deviation(z, 1).pow(2).mean(1, keepdim=True) + EPS),
    "over two": lambda z: (
        deviation(z, 1, 2) * torch.rsqrt(deviation(z, 1, 2).square().mean((1, 2), keepdim=True) + EPS)
    ),
}
OTHERS: dict[str, Map] = {
    "divided by n - 1": lambda z: deviation(z, -1) / torch.sqrt(z.var(-1, keepdim=True) + EPS),
    "a sum": lambda z: z / torch.sqrt(z.square().sum(-1, keepdim=True) + EPS),
    "a sum put back": lambda z: z / torch.sqrt(z.square().sum(-1).unsqueeze(-1) + EPS),
    "by another number": lambda z: z / torch.sqrt(z.square().sum(-1, keepdim=True) / 5 + EPS),
    "of another tensor": lambda z: z.tanh() / torch.sqrt(z.square().mean(-1, keepdim=True) + EPS),
    "times the root": lambda z: z * torch.sqrt(z.square().mean(-1, keepdim=True) + EPS),
    "over the inverse root": lambda z: z / torch.rsqrt(z.square().mean(-1, keepdim=True) + EPS),
    "the root by the state": lambda z: torch.sqrt(z.square().mean(-1, keepdim=True) + EPS) / z,
    "no eps": lambda z: z / torch.sqrt(z.square().mean(-1, keepdim=True) + 0.0),
    "below zero": lambda z: z / torch.sqrt(z.square().mean(-1, keepdim=True) - 1e-9),
    "a third power": lambda z: z / torch.sqrt(z.pow(3).mean(-1, keepdim=True) + EPS),
    "eps as large as the state": lambda z: z / torch.sqrt(z.square().mean(-1, keepdim=True) + z[..., :1].square()),
    "of another order": lambda z: (
        z.sort(-1)[0] * torch.rsqrt(z.sort(-1, True)[0].square().mean(-1, keepdim=True) + EPS)
    ),
    "of rows for columns": lambda z: z / torch.sqrt(z.square().mean(-1).unsqueeze(1) + EPS),
}


def ops(function: Map, z: Tensor) -> list[str]:
    return [node.op for node in recognised(trace(function, z).concrete(z)).nodes]


@pytest.mark.parametrize("function", RMS.values(), ids=RMS)
def test_an_rms_norm_is_one_operation(function: Map) -> None:
    assert {op for op in ops(function, torch.randn(2, 3, 4)) if op not in ("permute", "cast")} == {"rms_norm"}


@pytest.mark.parametrize("function", LAYER.values(), ids=LAYER)
def test_a_layer_norm_is_one_operation(function: Map) -> None:
    assert {op for op in ops(function, torch.randn(2, 3, 4)) if op != "permute"} == {"layer_norm"}


@pytest.mark.parametrize("function", OTHERS.values(), ids=OTHERS)
def test_nothing_else_is_taken_for_a_norm(function: Map) -> None:
    z = torch.randn(2, 4, 4)
    assert not {"rms_norm", "layer_norm"} & set(ops(function, z))


def test_a_single_number_is_no_group() -> None:
    graph = trace(lambda z: z * torch.rsqrt(z.square().mean() + EPS), torch.tensor(1.0), batch_dims=0)
    assert "rms_norm" not in {node.op for node in recognised(graph.concrete(torch.tensor(1.0))).nodes}


@pytest.mark.parametrize("function", [*RMS.values(), *LAYER.values()], ids=[*RMS, *(f"layer {k}" for k in LAYER)])
def test_the_operation_is_the_same_function(function: Map) -> None:
    z = torch.randn(2, 3, 4, generator=seeded(1), dtype=torch.float64)
    problem = Problem(trace(function, z), z, ())
    assert problem.graph.nodes != problem.written_out.nodes
    image = problem.image([z])[0]
    value = function(z)
    assert bool(((image.mid - value).abs() <= image.rad + 1e-14).all())
    assert float(image.rad.max()) < 1e-12


@pytest.mark.parametrize("function", [RMS["over channels"], LAYER["over channels"]], ids=["rms", "layer"])
def test_it_has_a_bound_everywhere_that_the_checker_confirms(function: Map) -> None:
    def G(z: Tensor, x: Tensor) -> Tensor:
        return 0.02 * function(z) + x

    x = torch.randn(2, 3, 4, generator=seeded(2))
    certificate = certify(G, torch.zeros_like(x), x)
    assert certificate.verdict is Verdict.CERTIFIED
    assert certificate.theorem == "picard"
    assert certificate.rate is not None
    assert certificate.rate <= 0.02 / EPS**0.5 * (1 + 1e-9)
    assert_accepted(certificate, G, torch.zeros_like(x), x)
