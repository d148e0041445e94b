"""Strategies of numbers, tensors, matrices of known norm, norms and regions; all dyadic and small."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
from hypothesis import strategies as st
from torch import Tensor

from deqops.verify import Ball, Norm, Region
from deqops.verify._region import Global

from ._choices import Drawn
from ._weights import WEIGHTS, doubles, matrix_of_norm, rotation

SIDE = 16
"""Denominator of drawn rates."""
ORDERS: tuple[Literal["l1", "l2", "linf"], ...] = ("l2", "l1", "linf")


def numbers(largest: int = 2) -> st.SearchStrategy[float]:
    """Multiples of 1/8 of at most this size; whole numbers and small ones first."""
    return st.integers(-8 * largest, 8 * largest).map(lambda k: k / 8)


def rates(least: Fraction = Fraction(0), most: Fraction = Fraction(15, 16)) -> st.SearchStrategy[Fraction]:
    """Sixteenths from `least` to `most`."""
    return st.integers(int(least * SIDE), int(most * SIDE)).map(lambda k: Fraction(k, SIDE))


@st.composite
def tensors(draw: st.DrawFn, *shape: int, largest: int = 2) -> Tensor:
    """float64 tensors of such numbers."""
    count = int(torch.Size(shape).numel())
    return doubles(draw(st.lists(numbers(largest), min_size=count, max_size=count))).reshape(shape)


@st.composite
def floats(draw: st.DrawFn, *shape: int) -> Tensor:
    """float64 tensors of any numbers of float32 from -2 to 2: digits as weights have them in practice."""
    count = int(torch.Size(shape).numel())
    return doubles(draw(st.lists(st.floats(-2, 2, width=32), min_size=count, max_size=count))).reshape(shape)


def states(batch: int = 1, unknowns: int = 2) -> st.SearchStrategy[Tensor]:
    """States (batch, unknowns)."""
    return tensors(batch, unknowns)


@st.composite
def inputs(draw: st.DrawFn, *like: Tensor, largest: int = 2) -> tuple[Tensor, ...]:
    """Other values of inputs: of the same shapes and dtypes where they are floating point, as they are elsewhere."""
    return tuple(
        draw(tensors(*value.shape, largest=largest)).to(value.dtype) if value.is_floating_point() else value
        for value in like
    )


@st.composite
def matrices(draw: st.DrawFn, size: int, norm: Fraction, *, invertible: bool = False) -> Tensor:
    """(size, size) of l2 norm exactly `norm`: `H_1 diag(norm, s_2, ..) H_2`, H Householder's; size 1, 2, 4 or 8."""
    return matrix_of_norm(Drawn(draw), size, norm, least=int(invertible))


@st.composite
def orthogonals(draw: st.DrawFn, size: int) -> Tensor:
    """(size, size), orthogonal and dyadic: a reflection where the size is a power of two, else a permutation."""
    return rotation(Drawn(draw), size)


@st.composite
def weights(draw: st.DrawFn, size: int, kinds: Sequence[str] = tuple(WEIGHTS)) -> Tensor:
    """(size, size) near the limits of the theorems: norm, radius or row sums 1 exactly or off by a known step.

    Args:
        size: of the square matrix.
        kinds: some of `WEIGHTS`.
    """
    return WEIGHTS[draw(st.sampled_from(kinds))](Drawn(draw), size)


@st.composite
def norms(draw: st.DrawFn, *shape: int, weighted: bool = True) -> Norm:
    """Plain norms, and norms with powers of two as weights for a problem's state of this shape."""
    order = draw(st.sampled_from(ORDERS))
    if not (weighted and draw(st.booleans())):
        return Norm(order)
    return Norm(order, (torch.exp2(draw(tensors(*shape)).round()),))


@st.composite
def balls(draw: st.DrawFn, like: Tensor, *, batch_dims: int = 1, weighted: bool = True) -> Ball:
    """Balls around points near `like`, in any norm; in linf they are boxes, of any sides where it is weighted.

    Args:
        like: a state, as an equilibrium to be near.
        batch_dims: of the state.
        weighted: whether the norm may have weights.
    """
    center = like.double() + draw(tensors(*like.shape, largest=1))
    radius = draw(st.integers(1, 32)) / 8
    return Ball(center, radius, draw(norms(*like.shape[batch_dims:], weighted=weighted)))


def regions(like: Tensor, *, batch_dims: int = 1, weighted: bool = True) -> st.SearchStrategy[Region]:
    """Everywhere, or one of `balls`."""
    return st.just(Global()) | balls(like, batch_dims=batch_dims, weighted=weighted)
