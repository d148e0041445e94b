"""Hypothesis strategies: operators whose constants and equilibria are known exactly, states, inputs, graphs.

All numbers are dyadic and small, so that float64 computes weights, inputs and equilibria without rounding, and examples
shrink to few unknowns and entries like 0, 0.5 and 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from ._code import code_of
from ._modules import Averaging, Convolution, Layer, TwoLayers

KINDS = ("linear", "activation", "layers", "graph", "convolution", "monotone", "causal")
"""Of operators with one known equilibrium."""
CONTRACTING = KINDS[:5]
"""Those with a known constant."""
SIDE = 16
"""Denominator of drawn rates."""


@dataclass(frozen=True, eq=False)
class Known:
    """An operator and what is known of it.

    Attributes:
        operator: `G(state, *inputs)`.
        equilibrium: y with `y = G(y, *inputs)` exactly; the only one, where `theorem` is not empty.
        inputs: of the operator.
        norm: of the constant, "l2" or "linf".
        constant: the Lipschitz constant in that norm; for "layers" a bound of it; None where none is known.
        theorem: by which it has one equilibrium: "picard", "monotone" or "causal"; "" where none says so.
        batch_dims: 1, or 0 where the state is one problem.
    """

    operator: nn.Module
    equilibrium: Tensor
    inputs: tuple[Any, ...]
    norm: str
    constant: Fraction | None
    theorem: str
    batch_dims: int = 1

    @property
    def start(self) -> Tensor:
        """Zeros like the state."""
        return torch.zeros_like(self.equilibrium)

    def __repr__(self) -> str:
        parts = [f"operator={self.operator!r}", f"equilibrium={code_of(self.equilibrium)}"]
        parts += [f"inputs={code_of(self.inputs)}", f"norm={self.norm!r}", f"constant={self.constant!r}"]
        return f"Known({', '.join(parts)}, theorem={self.theorem!r}, batch_dims={self.batch_dims})"


def numbers(largest: int = 2) -> st.SearchStrategy[float]:
    """Multiples of 1/8 of at most this size."""
    return st.integers(-8 * largest, 8 * largest).map(lambda k: k / 8)


@st.composite
def tensors(draw: st.DrawFn, *shape: int, largest: int = 2) -> Tensor:
    """float64 tensors of such numbers."""
    count = int(torch.Size(shape).numel())
    values = draw(st.lists(numbers(largest), min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def states(batch: int = 1, unknowns: int = 2) -> st.SearchStrategy[Tensor]:
    """States (batch, unknowns)."""
    return tensors(batch, unknowns)


def rates(least: Fraction = Fraction(0), most: Fraction = Fraction(15, 16)) -> st.SearchStrategy[Fraction]:
    """Sixteenths from `least` to `most`."""
    return st.integers(int(least * SIDE), int(most * SIDE)).map(lambda k: Fraction(k, SIDE))


@st.composite
def matrices(draw: st.DrawFn, size: int, norm: Fraction) -> Tensor:
    """(size, size) of l2 norm exactly `norm`: `H_1 diag(norm, s_2, ..) H_2`, H Householder's; size 1, 2, 4 or 8."""
    others = draw(st.lists(st.integers(0, 8), min_size=size - 1, max_size=size - 1))
    values = torch.tensor([float(norm), *(float(norm) * k / 8 for k in others)], dtype=torch.float64)
    return draw(_reflections(size)) @ torch.diag(values) @ draw(_reflections(size))


@st.composite
def _reflections(draw: st.DrawFn, size: int) -> Tensor:
    signs = torch.tensor([1 - 2 * draw(st.integers(0, 1)) for _ in range(size)], dtype=torch.float64)
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(signs, signs) / size


def contractions(
    kinds: tuple[str, ...] = CONTRACTING, *, rate: st.SearchStrategy[Fraction] | None = None
) -> st.SearchStrategy[Known]:
    """Operators with a known constant below 1 and their equilibrium (T1 `picard`)."""
    return operators(kinds, rate=rate)


@st.composite
def operators(
    draw: st.DrawFn, kinds: tuple[str, ...] = KINDS, *, rate: st.SearchStrategy[Fraction] | None = None
) -> Known:
    """Operators with exactly one equilibrium, which is known: contracting, monotone (T5) or causal (T8).

    Args:
        kinds: some of `KINDS`.
        rate: of their constants; None for `rates()`.
    """
    kind = draw(st.sampled_from(kinds))
    return draw(_OF_KIND[kind](rates() if rate is None else rate))


@st.composite
def expansions(draw: st.DrawFn) -> Known:
    """Linear operators of constant above 1: no contractions in l2, with two states that show it."""
    constant = draw(st.integers(SIDE + 1, 4 * SIDE).map(lambda k: Fraction(k, SIDE)))
    size = draw(st.sampled_from((1, 2, 4)))
    weight = draw(matrices(size, constant))
    return _affine(draw, weight, "identity", constant, "")


@st.composite
def ambiguous(draw: st.DrawFn) -> Known:
    """`tanh(a z)` with a of at least 2: three equilibria in each unknown; 0 is the one that is known exactly."""
    slope, size = draw(st.integers(2, 5)), draw(st.integers(1, 3))
    weight = float(slope) * torch.eye(size, dtype=torch.float64)
    zeros = torch.zeros(1, size, dtype=torch.float64)
    return Known(Layer(weight, "tanh"), zeros, (zeros,), "l2", Fraction(slope), "")


@st.composite
def rings(draw: st.DrawFn, most: int = 6) -> Tensor:
    """Edges (2, 2 nodes) of a ring of 3 nodes or more, both directions."""
    nodes = draw(st.integers(3, most))
    there = torch.arange(nodes)
    back = (there + 1) % nodes
    return torch.stack([torch.cat([there, back]), torch.cat([back, there])])


def _affine(draw: st.DrawFn, weight: Tensor, activation: str, constant: Fraction | None, theorem: str) -> Known:
    """`s(W z + x)` with x such that a drawn preactivation p is at the equilibrium `s(p)`."""
    before = draw(tensors(draw(st.integers(1, 2)), len(weight)))
    operator = Layer(weight, activation)
    equilibrium = {"identity": before, "relu": before.relu(), "leaky_relu": torch.where(before > 0, before, before / 2)}
    return Known(
        operator, equilibrium[activation], (before - equilibrium[activation] @ weight.mT,), "l2", constant, theorem
    )


@st.composite
def _linear(draw: st.DrawFn, rate: st.SearchStrategy[Fraction]) -> Known:
    constant, size = draw(rate), draw(st.sampled_from((1, 2, 4)))
    return _affine(draw, draw(matrices(size, constant)), "identity", constant, "picard")


@st.composite
def _activation(draw: st.DrawFn, rate: st.SearchStrategy[Fraction]) -> Known:
    constant, size = draw(rate), draw(st.sampled_from((1, 2, 4)))
    name = draw(st.sampled_from(("relu", "leaky_relu")))
    return _affine(draw, draw(matrices(size, constant)), name, constant, "picard")


@st.composite
def _layers(draw: st.DrawFn, rate: st.SearchStrategy[Fraction]) -> Known:
    constant, size = draw(rate), draw(st.sampled_from((1, 2, 4)))
    inner, outer = draw(matrices(size, 2 * constant)), draw(matrices(size, Fraction(1, 2)))
    before = draw(tensors(1, size))
    equilibrium = before.relu()
    x = before - (equilibrium @ inner.mT).relu() @ outer.mT
    return Known(TwoLayers(inner, outer), equilibrium, (x,), "l2", constant, "picard")


@st.composite
def _graph(draw: st.DrawFn, rate: st.SearchStrategy[Fraction]) -> Known:
    constant, edges = draw(rate), draw(rings())
    operator = Averaging(float(constant))
    nodes = int(edges.max()) + 1
    equilibrium = draw(tensors(nodes, draw(st.integers(1, 2))))
    mean = operator(equilibrium, torch.zeros_like(equilibrium), edges).detach()
    return Known(operator, equilibrium, (equilibrium - mean, edges), "linf", constant, "picard", 0)


@st.composite
def _convolution(draw: st.DrawFn, rate: st.SearchStrategy[Fraction]) -> Known:
    constant, share = draw(rate), draw(st.integers(0, 4))
    side = float(constant) * share / 8
    kernel = torch.tensor([[[side, float(constant) - 2 * side, side]]], dtype=torch.float64)
    operator = Convolution(kernel)
    equilibrium = draw(tensors(1, 1, draw(st.integers(3, 5))))
    x = equilibrium - operator(equilibrium, torch.zeros_like(equilibrium)).detach()
    return Known(operator, equilibrium, (x,), "linf", constant, "picard")


@st.composite
def _monotone(draw: st.DrawFn, _: st.SearchStrategy[Fraction]) -> Known:
    size = draw(st.integers(1, 3))
    A, B = draw(tensors(size, size)), draw(tensors(size, size))
    weight = 0.5 * torch.eye(size, dtype=torch.float64) - A.mT @ A + B - B.mT
    return _affine(draw, weight, "relu", None, "monotone")


@st.composite
def _causal(draw: st.DrawFn, _: st.SearchStrategy[Fraction]) -> Known:
    size = draw(st.integers(1, 4))
    return _affine(draw, draw(tensors(size, size, largest=4)).tril(-1), "identity", None, "causal")


_OF_KIND = {
    "linear": _linear,
    "activation": _activation,
    "layers": _layers,
    "graph": _graph,
    "convolution": _convolution,
    "monotone": _monotone,
    "causal": _causal,
}
