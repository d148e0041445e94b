"""Arrays of real balls (python-flint `arb`) and how they meet exact tensors.

A *ball array* is a numpy array of dtype object whose entries are `arb`: each a midpoint and a radius that
together contain the true number. numpy only moves the entries about and maps operators over them. Every
result is an enclosure at the working precision; comparisons of balls are true only when certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import numpy as np
import torch
from flint import arb, arb_mat, ctx
from numpy.typing import NDArray

from ._refusal import Rejected

Balls = NDArray[Any]  # dtype object, entries arb
Ball = Any  # one arb

PRECISION = 160  # bits; certified rates carry a relative slack of 2^-40


@contextmanager
def working_precision() -> Iterator[None]:
    """Run a block at the checker's precision and restore the caller's."""
    before = ctx.prec
    ctx.prec = PRECISION
    try:
        yield
    finally:
        ctx.prec = before


def exact(tensor: torch.Tensor) -> Balls:
    """The exact numbers of a floating, integer or boolean tensor."""
    values = tensor.detach().cpu()
    if values.is_complex():
        raise Rejected(f"a tensor of dtype {values.dtype} is not real")
    if values.is_floating_point():
        return balls(values.to(torch.float64).reshape(-1).tolist(), tuple(values.shape))  # binary64 holds them all
    return balls((int(v) for v in values.reshape(-1).tolist()), tuple(values.shape))


def hull(low: Balls, high: Balls) -> Balls:
    """Balls around every number from one array's entries to another's; radii have 30 bits and are rounded up."""
    return each(lambda a, b: a.union(b), low, high)


def balls(entries: Iterable[Any], shape: tuple[int, ...]) -> Balls:
    """A ball array of the given entries (floats, integers, balls), in row-major order."""
    flat = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
    for number, entry in enumerate(entries):
        flat[number] = arb(entry)
    return flat.reshape(shape)


def full(value: Any, shape: tuple[int, ...]) -> Balls:
    """A ball array that holds one number everywhere."""
    result = np.empty(shape, dtype=object)
    result[...] = arb(value)
    return result


def each(function: Callable[..., Any], *arrays: Any) -> Balls:
    """`function` applied entry by entry, with numpy's broadcasting."""
    result = np.frompyfunc(function, len(arrays), 1)(*arrays)
    return array(result)


def array(value: Any) -> Balls:
    """The value as an array: numpy turns 0-dimensional results into bare entries."""
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), dtype=object)
    result[()] = value
    return result


def absolute(x: Balls) -> Balls:
    """Enclosures of the absolute values."""
    return each(abs, x)


def times(a: Balls, b: Any) -> Balls:
    """The entrywise product."""
    return array(a * b)


def plus(a: Balls, b: Any) -> Balls:
    """The entrywise sum."""
    return array(a + b)


def largest(x: Balls) -> Ball:
    """An enclosure of the largest of nonnegative entries; 0 where there are none."""
    return reduce(lambda a, b: a.max(b), x.reshape(-1), arb(0))


def total(x: Balls) -> Ball:
    """The sum of all entries."""
    return reduce(lambda a, b: a + b, x.reshape(-1), arb(0))


def square(x: Ball) -> Ball:
    """x^2; `x ** 2` is NaN in python-flint for a ball whose middle is 0."""
    return x * x


def whole_power(x: Ball, exponent: int) -> Ball:
    """x^n, for a ball whose middle is 0 as a product."""
    if x.mid() != 0 or x.is_exact():
        return x**exponent
    result, factor, left = arb(1), x, abs(exponent)
    while left:
        result, factor, left = result * factor if left & 1 else result, factor * factor, left >> 1
    return result if exponent >= 0 else 1 / result


def root_up(x: Ball) -> Ball:
    """An upper bound of the square root of a number that is at least 0, though its ball may reach below."""
    return x.upper().sqrt().upper()


def upper_end(x: Ball) -> Ball:
    """An exact ball at least as large as every number in x."""
    return x.upper()


def all_finite(x: Balls) -> bool:
    """Whether every ball is bounded; NaN and infinity are not."""
    return all(entry.is_finite() for entry in x.reshape(-1))


def matmul(a: Balls, b: Balls) -> Balls:
    """torch.matmul's product of ball arrays of any dimensions."""
    left = a[None, :] if a.ndim == 1 else a
    right = b[:, None] if b.ndim == 1 else b
    batch = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    left = np.broadcast_to(left, batch + left.shape[-2:])
    right = np.broadcast_to(right, batch + right.shape[-2:])
    result = np.empty((*batch, left.shape[-2], right.shape[-1]), dtype=object)
    for where in np.ndindex(*batch):
        result[where] = matrix_product(left[where], right[where])
    if a.ndim == 1:
        result = result[..., 0, :]
    return result[..., 0] if b.ndim == 1 else result


def inverse(a: Balls) -> Balls:
    """The inverse of a square matrix of balls.

    Raises:
        ZeroDivisionError: one of the matrices in the balls may be singular.
    """
    return balls(arb_mat(a.shape[0], a.shape[1], list(a.flat)).inv().entries(), a.shape) if a.size else a


def exponential(a: Balls) -> Balls:
    """The exponential of a square matrix of balls."""
    return balls(arb_mat(a.shape[0], a.shape[1], list(a.flat)).exp().entries(), a.shape) if a.size else a


def matrix_product(a: Balls, b: Balls) -> Balls:
    """The product of two matrices of balls."""
    if 0 in a.shape or 0 in b.shape:
        return full(0, (a.shape[0], b.shape[1]))
    product = arb_mat(a.shape[0], a.shape[1], list(a.flat)) * arb_mat(b.shape[0], b.shape[1], list(b.flat))
    return balls(product.entries(), (a.shape[0], b.shape[1]))
