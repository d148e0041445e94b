"""Operators: the right-hand sides of equilibrium equations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops._errors import InputError

Operator = Callable[..., Any]
"""Any callable `G(state, *inputs) -> state` of the same structure."""


@runtime_checkable
class PreparableOperator(Protocol):
    """An operator `G(state, *inputs)`, or T of an `OperatorEquation`, that does once what concerns its inputs alone.

    A solve asks it once and applies what it gets; a certificate is about `G(state, *inputs)` itself.
    """

    def at_inputs(self, *inputs: Any) -> Callable[[Any], Any]:
        """`state -> G(state, *inputs)`, the same function up to rounding; gradients pass through it to the weights."""


def bound(G: Operator, *inputs: Any) -> Callable[[Any], Any]:
    """`state -> G(state, *inputs)`; what G can do once (`PreparableOperator`) it does here.

    A module with hooks is called as it is, so that they see every call, and so is one whose `forward` is not that which
    `at_inputs` was written for.
    """
    if _is_prepared(G):
        return cast(PreparableOperator, G).at_inputs(*inputs)
    return lambda state: G(state, *inputs)


def _is_prepared(G: Operator) -> bool:
    kind: type = type(G)
    if not _speaks_of_its_calls(kind):
        return False
    if not isinstance(G, nn.Module):
        return True
    watched = torch.nn.modules.module._has_any_global_hook()  # type: ignore[no-untyped-call]
    return not (watched or "forward" in vars(G) or hooks_of(G))


@lru_cache(maxsize=1024)
def _speaks_of_its_calls(kind: type) -> bool:
    """Whether `at_inputs` comes from the class that says what a call does, or from one derived from it."""
    for parent in kind.__mro__:
        if "at_inputs" in vars(parent):
            return True
        if "forward" in vars(parent) or "__call__" in vars(parent):
            return False
    return False


def hooks_of(module: nn.Module) -> list[Any]:
    """The hooks, of torch and of PyG, that see or change the calls of this module."""
    kinds = [value for name, value in vars(module).items() if name.endswith("_hooks") and "state_dict" not in name]
    return [hook for kind in kinds for hook in kind.values()]


class OperatorEquation(nn.Module):
    """The operator equation `y = f + scale * T(y, *inputs)` as an operator G.

    Args:
        T: callable or module `T(y, *inputs) -> y'`, y' of y's structure.
        f: a tensor (it becomes a buffer, a parameter stays one), a callable or module of the inputs, or None
            for 0.
        scale: the finite scalar lambda.

    Raises:
        InputError: `T` is not callable, `f` is none of these, or `scale` is not a finite number.

    Source: Zappala et al., *Operator Learning Meets Numerical Analysis*, arXiv:2310.01618, section 3.
    """

    def __init__(self, T: Operator, f: Tensor | Operator | None = None, scale: float = 1.0) -> None:
        super().__init__()
        if not callable(T):
            raise InputError(f"T: a callable T(y, *inputs) is needed, got {type(T).__name__}")
        number: object = scale
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise InputError(f"scale: a finite number is needed, got {scale!r}")
        offset: object = f
        if offset is not None and not callable(offset) and not isinstance(offset, Tensor):
            got = type(offset).__name__
            raise InputError(f"f: a tensor, a callable of the inputs or None is needed, got {got}")
        self.T = T
        self.scale = float(scale)
        if isinstance(f, Tensor) and not isinstance(f, nn.Parameter):
            self.register_buffer("f", f)
        else:
            self.f = f

    def forward(self, y: Any, *inputs: Any) -> Any:
        """`f(*inputs) + scale * T(y, *inputs)`."""
        return self._shifted(self.T(y, *inputs), self._offset(*inputs))

    def at_inputs(self, *inputs: Any) -> Callable[[Any], Any]:
        """`y -> f(*inputs) + scale * T(y, *inputs)` with f computed once, here; gradients pass through it.

        T does once what it can, too (`PreparableOperator`).
        """
        offset, image_of = self._offset(*inputs), bound(self.T, *inputs)
        return lambda y: self._shifted(image_of(y), offset)

    def _offset(self, *inputs: Any) -> Any:
        return self.f if self.f is None or isinstance(self.f, Tensor) else self.f(*inputs)

    def _shifted(self, image: Any, offset: Any) -> Any:
        if self.scale != 1.0:
            image = pytree.tree_map(lambda leaf: self.scale * leaf, image)
        if offset is None:
            return image
        if isinstance(image, Tensor):
            return offset + image
        if isinstance(offset, Tensor):
            raise InputError("f: T returns a tree of tensors and f one tensor; let f return the same tree")
        return pytree.tree_map(lambda a, b: a + b, offset, image)
