"""Values and Jacobians of small maps in ball arithmetic, by forward differentiation: nothing of deqops is used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise
from typing import Any

import numpy as np
from flint import arb
from numpy.typing import NDArray

Balls = NDArray[Any]


class UndecidedError(Exception):
    """A kink or a tie is too near to say on which side of it a value lies."""


@dataclass(frozen=True, eq=False)
class Dual:
    """A tensor and its derivatives by the n unknowns, (*shape, n)."""

    value: Balls
    slopes: Balls

    def each(self, function: Callable[[Any], tuple[Any, Any]]) -> Dual:
        """A function entry by entry, given as value and derivative."""
        pairs = np.frompyfunc(function, 1, 1)(self.value)
        value, slope = (np.frompyfunc(lambda pair, k=k: pair[k], 1, 1)(pairs) for k in (0, 1))
        return Dual(value, self.slopes * slope[..., None])

    def moved(self, change: Callable[[Balls], Balls]) -> Dual:
        """The same movement of the tensor's dimensions, which come first, in both."""
        return Dual(change(self.value), np.moveaxis(_each_column(self.slopes, change), 0, -1))


def _each_column(slopes: Balls, change: Callable[[Balls], Balls]) -> Balls:
    return np.stack([change(column) for column in np.moveaxis(slopes, -1, 0)])


def variables(state: Balls) -> Dual:
    """The state itself: its derivative is the identity."""
    eye = np.array([[arb(int(i == j)) for j in range(state.size)] for i in range(state.size)], dtype=object)
    return Dual(state, eye.reshape(*state.shape, state.size))


def add(a: Dual, b: Dual) -> Dual:
    """a + b."""
    return Dual(a.value + b.value, a.slopes + b.slopes)


def sub(a: Dual, b: Dual) -> Dual:
    """a - b."""
    return Dual(a.value - b.value, a.slopes - b.slopes)


def mul(a: Dual, b: Dual) -> Dual:
    """a b."""
    return Dual(a.value * b.value, a.slopes * b.value[..., None] + b.slopes * a.value[..., None])


def div(a: Dual, b: Dual) -> Dual:
    """a / b."""
    return mul(a, b.each(lambda x: (1 / x, -1 / (x * x))))


def times(a: Dual, matrix: Balls) -> Dual:
    """`a @ matrix`, the matrix constant."""
    return a.moved(lambda x: x @ matrix)


def matmul(a: Dual, b: Dual) -> Dual:
    """`a @ b` for stacks of matrices."""
    n = a.slopes.shape[-1]
    slopes = [a.slopes[..., k] @ b.value + a.value @ b.slopes[..., k] for k in range(n)]
    return Dual(a.value @ b.value, np.stack(slopes, axis=-1))


def transposed(a: Dual) -> Dual:
    """The last two dimensions swapped."""
    return a.moved(lambda x: np.swapaxes(x, -1, -2))


def convolved(a: Dual, b: Dual) -> Dual:
    """The circular convolution along the last dimension: `sum_k a_k b_(j - k)`."""
    size = a.value.shape[-1]
    terms = []
    for k in range(size):
        first = np.full(size, k)
        terms.append(
            mul(a.moved(partial(np.take, indices=first, axis=-1)), b.moved(partial(np.roll, shift=k, axis=-1)))
        )
    return reduce(add, terms)


def filtered(a: Dual, modes: Sequence[complex]) -> Dual:
    """Each mode of the discrete Fourier transform along the last dimension times a number, and back; of odd length.

    Mode 0 has a real factor, mode m stands for its conjugate too: `1/n sum_m (2 -) Re(w_m exp(2 pi i m (j - l) / n))`.
    """
    size = a.value.shape[-1]

    def entry(lag: int) -> Any:
        angles = [arb(2 * lag * m) / size for m in range(len(modes))]
        parts = [arb(w.real) * t.cos_pi() - arb(w.imag) * t.sin_pi() for w, t in zip(modes, angles, strict=True)]
        return (parts[0] + 2 * sum(parts[1:], arb(0))) / size

    matrix = np.array([[entry(j - k) for j in range(size)] for k in range(size)], dtype=object)
    return times(a, matrix)


def total(a: Dual) -> Dual:
    """The sum along the last dimension, which is kept."""
    return a.moved(lambda x: x.sum(axis=-1, keepdims=True))


def spread(a: Dual, size: int) -> Dual:
    """A last dimension of size 1 repeated."""
    return a.moved(lambda x: np.repeat(x, size, axis=-1))


def softmax(a: Dual) -> Dual:
    """Along the last dimension."""
    powers = a.each(lambda x: (x.exp(), x.exp()))
    return div(powers, spread(total(powers), a.value.shape[-1]))


def largest(a: Dual) -> Dual:
    """The largest along the last dimension, kept.

    Raises:
        UndecidedError: two values are too close.
    """
    rows = a.value.reshape(-1, a.value.shape[-1])
    chosen = np.array([_winner(row) for row in rows])
    index = chosen.reshape(*a.value.shape[:-1], 1)
    return a.moved(lambda x: np.take_along_axis(x, index, axis=-1))


def in_order(a: Dual) -> Dual:
    """Ascending along the last dimension.

    Raises:
        UndecidedError: two values are too close.
    """
    rows = a.value.reshape(-1, a.value.shape[-1])
    index = np.array([_ascending(row) for row in rows]).reshape(a.value.shape)
    return a.moved(lambda x: np.take_along_axis(x, index, axis=-1))


def _ascending(row: Any) -> list[int]:
    order = sorted(range(len(row)), key=lambda k: float(row[k].mid()))
    if not all(bool(row[a] < row[b]) for a, b in pairwise(order)):
        raise UndecidedError
    return order


def _winner(row: Any) -> int:
    best = max(range(len(row)), key=lambda k: float(row[k].mid()))
    if not all(k == best or bool(row[best] > row[k]) for k in range(len(row))):
        raise UndecidedError
    return best


def normalised(a: Dual, eps: float) -> Dual:
    """A layer norm along the last dimension."""
    size = a.value.shape[-1]
    share = arb(1) / size
    centred = sub(a, spread(total(a).each(lambda x: (x * share, share)), size))
    variance = total(mul(centred, centred)).each(lambda x: (x * share, share))
    scale = variance.each(lambda v: (1 / (v + arb(eps)).sqrt(), -1 / (2 * (v + arb(eps)) ** 1.5)))
    return mul(centred, spread(scale, size))


def _kinked(below: float, above: float) -> Callable[[Any], tuple[Any, Any]]:
    def function(x: Any) -> tuple[Any, Any]:
        if not (x > 0 or x < 0):
            raise UndecidedError
        slope = arb(above if x > 0 else below)
        return x * slope, slope

    return function


def stepped(x: Any) -> tuple[Any, Any]:
    """The largest integer not above x, which has no slope but where it jumps."""
    low, high = x.lower().floor(), x.upper().floor()
    if not low == high:
        raise UndecidedError
    return low, arb(0)


def signed(x: Any) -> tuple[Any, Any]:
    """The sign."""
    if not (x > 0 or x < 0):
        raise UndecidedError
    return arb(1 if x > 0 else -1), arb(0)


def chosen(a: Dual, b: Dual, threshold: float) -> Dual:
    """b where a is above a number, -b elsewhere."""
    over = a.each(lambda x: signed(x - arb(threshold)))
    return mul(over, b)


def _tanh(x: Any) -> tuple[Any, Any]:
    value = x.tanh()
    return value, 1 - value**2


def _sigmoid(x: Any) -> tuple[Any, Any]:
    value = 1 / (1 + (-x).exp())
    return value, value * (1 - value)


def _silu(x: Any) -> tuple[Any, Any]:
    gate, slope = _sigmoid(x)
    return x * gate, gate + x * slope


def _gelu(x: Any) -> tuple[Any, Any]:
    cdf = (1 + (x / arb(2).sqrt()).erf()) / 2
    return x * cdf, cdf + x * (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


FUNCTIONS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "gelu": _gelu,
    "relu": _kinked(0.0, 1.0),
    "abs": _kinked(-1.0, 1.0),
    "square": lambda x: (x * x, 2 * x),
}


def exact(values: Sequence[float], shape: tuple[int, ...]) -> Balls:
    """Floats as balls of radius 0."""
    result = np.empty(len(values), dtype=object)
    for number, value in enumerate(values):
        result[number] = arb(value)
    return result.reshape(shape)


def norm_exceeds(matrix: Balls, order: str, limit: float) -> bool:
    """Whether `||matrix|| > limit` for certain; l2 by the definiteness of `limit^2 I - M^T M`."""
    if order == "l2":
        from flint import arb_mat

        from ._balls import definiteness

        n = matrix.shape[1]
        gram = np.asarray(matrix.T @ matrix)
        rows = [[(arb(limit) ** 2 if i == j else arb(0)) - gram[i, j] for j in range(n)] for i in range(n)]
        return definiteness(arb_mat(n, n, [x for row in rows for x in row])) is False
    sums = np.frompyfunc(abs, 1, 1)(matrix).sum(axis=1 if order == "linf" else 0)
    return bool(reduce(arb.max, sums) > arb(limit))
