"""What all parametrisations here are: maps of stored tensors to one whose bound is proven, in train and eval mode."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from deqops._errors import InputError
from deqops._precision import without_autocast

from .._rounding import div_down

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Tensor])

ROOM = 1.0 - 2.0**-30
"""Bounds are kept below the rate by this factor, so that a certificate, whose own rounding comes on top, is too."""


def as_it_is(forward: F) -> F:
    """A map's forward pass outside of autocast, and between two graphs of `torch.compile`.

    Bounds are proven of IEEE arithmetic in the tensors' own dtype. A compiler may fuse and reorder operations; sums
    and products that are rounded upwards would not be any more.
    """

    @wraps(forward)
    def called(map_: WeightMap, *weights: Tensor) -> Tensor:
        if torch.compiler.is_dynamo_compiling():
            from ._uncompiled import call_uncompiled

            compiled: Tensor = call_uncompiled(called, map_, *weights)
            return compiled
        with without_autocast(weights[0].device):
            weight: Tensor = forward(map_, *weights)
        return weight

    return cast(F, called)


class WeightMap(nn.Module):
    """A parametrisation that is a function of the stored tensors alone: no buffers, no mode, no history.

    `deqops.export` and `certify` take the tensor it gives as the weight, exactly as it is.
    """

    is_function_of_weights = True

    def __init__(self) -> None:
        super().__init__()
        self._memory: tuple[tuple[Tensor, ...], Any, Any] | None = None

    def _known(self, analysed: Callable[..., T], *weights: Tensor) -> T:
        """`analysed(*weights)`, without gradients, remembered for as long as the numbers are the same.

        A solve reads a weight at each evaluation. Version counters do not tell whether numbers have changed
        (`parameter.data` writes past them), so the numbers are compared, and what the rounding of products depends on.
        What is first read in inference mode is used in training too, so that nothing here is an inference tensor.
        """
        memory, mode = self._memory, (torch.get_num_threads(), torch.get_float32_matmul_precision())
        if memory is None or memory[1] != mode or not _equal(memory[0], weights):
            with torch.inference_mode(False), torch.no_grad():
                copies = tuple(weight.detach().clone() for weight in weights)
                memory = self._memory = (copies, mode, analysed(*copies))
        result: T = memory[2]
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Without what is remembered."""
        return {**self.__dict__, "_memory": None}


def _equal(known: tuple[Tensor, ...], weights: tuple[Tensor, ...]) -> bool:
    return all(
        a.shape == b.shape and a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
        for a, b in zip(known, weights, strict=True)
    )


def check_rate(rate: object) -> float:
    """The rate as a float.

    Raises:
        InputError: it is not a finite number above 0.
    """
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise InputError(f"rate: a finite number above 0 is needed, got {rate!r}")
    return float(rate)


def largest_factors(rate: float, bounds: Tensor, moduli: Tensor, ones: Tensor, dtype: torch.dtype) -> Tensor:
    """Factors f <= 1 that `dtype` holds, such that the rounded product of f and its tensor has norm at most `rate`.

    A product is rounded by at most a unit of itself and the smallest number.

    Args:
        rate: what is wanted.
        bounds: proven, of the tensors' norms, float64 of any shape.
        moduli: proven, of the norms of the tensors of their moduli.
        ones: proven, of the norms of tensors of ones of their shapes.
        dtype: of the tensors.

    Returns:
        float64: 1 where nothing need change, else nearly `rate / bound`; 0 where the dtype holds no such factor.
    """
    unit, smallest = torch.finfo(dtype).eps, torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps
    room = (rate * ROOM - smallest * ones) * (1.0 - 2.0**-40)  # for the rounding of this very line and the next
    factors = div_down(room, bounds + unit * moduli).clamp_min(0.0)  # rounding a faint quotient may double it
    near = factors.to(dtype)
    down = torch.where(near.to(torch.float64) > factors, torch.nextafter(near, torch.zeros_like(near)), near)
    return torch.where(bounds <= rate * ROOM, 1.0, down.to(torch.float64))


def largest_factor(rate: float, bound: float, moduli: float, ones: float, dtype: torch.dtype) -> float:
    """`largest_factors` for one tensor."""
    norm, other, unity = (torch.tensor(value, dtype=torch.float64) for value in (bound, moduli, ones))
    return float(largest_factors(rate, norm, other, unity, dtype))
