"""Hypothesis strategies: operators whose constants and equilibria are known exactly.

All numbers are dyadic and small, so that float64 computes weights, inputs and equilibria without rounding, and examples
shrink to few unknowns and entries like 0, 0.5 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import torch
from hypothesis import strategies as st
from torch import Tensor

from deqops.verify import Ball

from ._choices import Drawn
from ._graphs import Graph, graphs
from ._known import Known
from ._modules import ACTIVATIONS, Convolution, Layer, Messages, TwoLayers
from ._tensors import SIDE, floats, matrices, rates, tensors
from ._weights import doubles, shares

CONTRACTING = ("linear", "activation", "layers", "graph", "convolution")
"""Those that contract by their constant in their norm."""
KINDS = (*CONTRACTING, "monotone", "causal")
"""Of operators with one known equilibrium."""
SIZES = (1, 2, 4)
Rate = st.SearchStrategy[Fraction]


def contractions(kinds: tuple[str, ...] = CONTRACTING, *, rate: Rate | None = None) -> st.SearchStrategy[Known]:
    """Operators with a known constant below 1 and their equilibrium (T1 `picard`)."""
    return operators(kinds, rate=rate)


@st.composite
def operators(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, *, rate: Rate | None = None) -> Known:
    """Operators with exactly one equilibrium, which is known: contracting, monotone (T5) or causal (T8).

    Args:
        kinds: some of `KINDS`.
        rate: of the constants of those that contract; None for `rates()`.
    """
    kind = draw(st.sampled_from(kinds))
    return draw(_OF_KIND[kind](rates() if rate is None else rate))


@st.composite
def expansions(draw: st.DrawFn, kinds: tuple[str, ...] = ("linear",)) -> Known:
    """Operators of constant above 1: no contractions in their norm, with two states that show it.

    Args:
        kinds: of "linear", "activation", "graph" and "convolution"; a graph without edges is none.
    """
    above = rates(Fraction(SIDE + 1, SIDE), Fraction(4))
    known = draw(operators(kinds, rate=above).filter(lambda known: known.constant > 1))
    return Known(
        known.operator, known.equilibrium, known.inputs, known.norm, known.constant, "", batch_dims=known.batch_dims
    )


@st.composite
def ambiguous(draw: st.DrawFn) -> Known:
    """`s(a z)` with a of at least 2, s tanh or hardtanh: three equilibria in each unknown, 0 and about -+1."""
    slope, size = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    name = draw(st.sampled_from(("tanh", "hardtanh")))
    zeros = torch.zeros(1, size, dtype=torch.float64)
    others = (zeros + 1, zeros - 1) if name == "hardtanh" else ()
    return Known(Layer(slope * _identity(size), name), zeros, (zeros,), "l2", Fraction(slope), "", others=others)


@st.composite
def saturated(draw: st.DrawFn) -> Known:
    """`hardtanh(a z)` near an equilibrium with entries 1 and -1: a constant map in the ball (T2 `local_picard`)."""
    slope, size = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    corner = 2 * doubles([draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))]) - 1
    ball = Ball(corner, draw(st.integers(1, 3)) / 8)
    others = (torch.zeros_like(corner), -corner)
    operator = Layer(slope * _identity(size), "hardtanh")
    return Known(operator, corner, (others[0],), "linf", Fraction(0), "local_picard", others=others, region=ball)


@st.composite
def layers(
    draw: st.DrawFn, activations: tuple[str, ...] = tuple(ACTIVATIONS), *, scale: float = 0.3, most: int = 4
) -> tuple[Layer, Tensor, Tensor]:
    """Layers `s(W z + U x)` of which nothing is known, with a state and x, one problem: `(layer, state, x)`.

    Args:
        activations: names in `ACTIVATIONS`.
        scale: factor of a weight with entries from -2 to 2, any numbers of float32.
        most: unknowns, and entries of x.
    """
    size, inputs = draw(st.integers(1, most)), draw(st.integers(1, most))
    weight, other = draw(floats(size, size)) * scale, draw(floats(size, inputs))
    layer = Layer(weight, draw(st.sampled_from(activations)), other)
    return layer, draw(floats(1, size)), draw(floats(1, inputs))


def _identity(size: int) -> Tensor:
    return torch.eye(size, dtype=torch.float64)


# -------------------------------------------------------------------------------------------------- the kinds

_EXACT: dict[str, Callable[[Tensor], Tensor]] = {name: ACTIVATIONS[name] for name in ("identity", "relu", "leaky")}


def _affine(draw: st.DrawFn, weight: Tensor, activation: str, norm: str, constant: Fraction, theorem: str) -> Known:
    """`s(W z + x)` with x such that a drawn preactivation p is at the equilibrium `s(p)`."""
    before = draw(tensors(draw(st.integers(1, 2)), len(weight)))
    equilibrium = _EXACT[activation](before)
    x = before - equilibrium @ weight.mT
    return Known(Layer(weight, activation), equilibrium, (x,), norm, constant, theorem)


def _row_sum(weight: Tensor) -> Fraction:
    """The constant of `s(W z + x)` in linf where s has slope 1 somewhere, exactly."""
    return max(sum((abs(Fraction(v)) for v in row), Fraction(0)) for row in weight.tolist())


@st.composite
def _linear(draw: st.DrawFn, rate: Rate) -> Known:
    constant, size = draw(rate), draw(st.sampled_from(SIZES))
    return _affine(draw, draw(matrices(size, constant)), "identity", "l2", constant, "picard")


@st.composite
def _activation(draw: st.DrawFn, rate: Rate) -> Known:
    """W is invertible, so that all activations have slope 1 somewhere, and the constant is attained."""
    constant, size = draw(rate), draw(st.sampled_from(SIZES))
    name, weight = draw(st.sampled_from(("relu", "leaky"))), draw(matrices(size, constant, invertible=True))
    return _affine(draw, weight, name, "l2", constant, "picard")


@st.composite
def _layers(draw: st.DrawFn, rate: Rate) -> Known:
    constant, size = draw(rate), draw(st.sampled_from(SIZES))
    inner, outer = draw(matrices(size, 2 * constant)), draw(matrices(size, Fraction(1, 2)))
    before = draw(tensors(1, size))
    equilibrium = before.relu()
    x = before - (equilibrium @ inner.mT).relu() @ outer.mT
    return Known(TwoLayers(inner, outer), equilibrium, (x,), "l2", constant, "picard")


@st.composite
def _graph(draw: st.DrawFn, rate: Rate) -> Known:
    """Each node's incoming edges share the rate, with signs: all row sums but those of nodes without are the rate."""
    graph: Graph = draw(graphs())
    constant, strengths = draw(rate) if len(graph.strengths) else Fraction(0), torch.zeros_like(graph.strengths)
    for node in range(graph.nodes):
        incoming = graph.edges[1] == node
        strengths[incoming] = doubles(shares(Drawn(draw), int(incoming.sum()), constant))
    operator = Messages(draw(st.sampled_from(tuple(_EXACT))))
    before = draw(tensors(graph.nodes, draw(st.integers(1, 2))))
    equilibrium = _EXACT[operator.activation](before)
    x = before - Graph(graph.nodes, graph.edges, strengths).adjacency @ equilibrium
    return Known(operator, equilibrium, (x, graph.edges, strengths), "linf", constant, "picard", 0)


@st.composite
def _convolution(draw: st.DrawFn, rate: Rate) -> Known:
    """Each output channel's taps share the rate, with signs; no side is shorter than the kernel's."""
    constant, channels, dims = draw(rate), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    taps = (3,) if dims == 1 else draw(st.sampled_from(((1, 3), (3, 1))))
    rows = [shares(Drawn(draw), 3 * channels, constant) for _ in range(channels)]
    kernel = doubles(rows).reshape(channels, channels, *taps)
    operator = Convolution(kernel, draw(st.sampled_from(("circular", "zeros"))))
    equilibrium = draw(tensors(1, channels, *(draw(st.integers(3, 5 if dims == 1 else 3)) for _ in taps)))
    x = equilibrium - operator(equilibrium, torch.zeros_like(equilibrium)).detach()
    return Known(operator, equilibrium, (x,), "linf", constant, "picard")


@st.composite
def _monotone(draw: st.DrawFn, _: Rate) -> Known:
    size, margin = draw(st.integers(1, 3)), draw(rates(Fraction(1, SIDE), Fraction(1)))
    A, B = draw(tensors(size, size)), draw(tensors(size, size))
    weight = float(1 - margin) * _identity(size) - A.mT @ A + B - B.mT
    known = _affine(draw, weight, "relu", "linf", _row_sum(weight), "monotone")
    return Known(*(known.operator, known.equilibrium, known.inputs, "linf", known.constant, "monotone"), margin=margin)


@st.composite
def _causal(draw: st.DrawFn, _: Rate) -> Known:
    size = draw(st.integers(1, 4))
    weight = draw(tensors(size, size, largest=4)).tril(-1)
    return _affine(draw, weight, draw(st.sampled_from(tuple(_EXACT))), "linf", _row_sum(weight), "causal")


_OF_KIND: dict[str, Callable[[Rate], st.SearchStrategy[Known]]] = {
    "linear": _linear,
    "activation": _activation,
    "layers": _layers,
    "graph": _graph,
    "convolution": _convolution,
    "monotone": _monotone,
    "causal": _causal,
}
