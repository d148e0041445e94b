"""A module run on its example: for its own error message, and for what it keeps between calls.

An export holds one run of a module's Python code. What a module remembers in its attributes, counts, or draws from
Python's generators is a constant of the graph then, and no operation of it tells; nor does it tell which branch the
code takes where gradients are recorded.
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops.graph._comparable import coarsest_of
from deqops.graph._tree import tree_of

_OTHER_RESULTS = "gives another result when it is called again with the same arguments"
_OTHER_WITH_GRADIENTS = "gives another result where gradients are recorded than where they are not"
_DRAWS = "random: draws numbers from Python's or NumPy's generator"


def tried_out(module: nn.Module, example: tuple[Any, ...]) -> list[str]:
    """Why a module is not one fixed map, as far as three runs show; its buffers and the generators stay as they are.

    Results may differ by rounding: sums on several threads do.
    """
    before = _generators()
    first = run_once(module, example)
    tree_of(first, "operator: its result")
    drew = _generators() != before
    _restore(before)
    second = run_once(module, example)
    _restore(before)
    if drew:
        return [_DRAWS]
    if not _agree(first, second):
        return [_OTHER_RESULTS]
    return [] if _agrees_with_gradients(first, module, example) else [_OTHER_WITH_GRADIENTS]


def _agrees_with_gradients(first: Any, module: nn.Module, example: tuple[Any, ...]) -> bool:
    """Up to the rounding of its weights' dtypes: torch has other kernels without gradients.

    A module that cannot be run with gradients, as one that writes to its weights, gives no other result there.
    """
    tensors = [*module.parameters(), *module.buffers()]
    try:
        recorded = run_once(module, example, gradients=True)
    except RuntimeError:
        return True
    return _agree(first, recorded, coarsest_of(tensor.dtype for tensor in tensors))


def run_once(module: nn.Module, example: tuple[Any, ...], *, gradients: bool = False) -> Any:
    """A module's result; its buffers, the example and torch's generator stay as they are.

    A buffer of several names goes by the first of them, and stays one tensor.
    """
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    copies = pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, example)
    with torch.set_grad_enabled(gradients), torch.random.fork_rng(devices=[]):
        result = torch.func.functional_call(module, buffers, copies)
        return pytree.tree_map(lambda t: t.detach().clone() if isinstance(t, Tensor) else t, result)


def _agree(first: Any, second: Any, eps: float = 0.0) -> bool:
    (ones, tree), (twos, other) = pytree.tree_flatten(first), pytree.tree_flatten(second)
    return tree == other and all(alike(one, two, eps) for one, two in zip(ones, twos, strict=True))


def alike(one: Any, two: Any, eps: float = 0.0) -> bool:
    """Whether two results are apart by rounding at most: to their own precision, or to a coarser one."""
    if not isinstance(one, Tensor) or not isinstance(two, Tensor):
        return type(one) is type(two)
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not one.is_floating_point() and not one.is_complex():
        return torch.equal(one, two)
    close = math.sqrt(max(eps, torch.finfo(one.dtype).eps))
    return torch.equal(one, two) or torch.allclose(one, two, rtol=close, atol=close, equal_nan=True)


def _generators() -> tuple[Any, ...]:
    """The states of Python's generator and of NumPy's, if that is there."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return (random.getstate(),)
    kind, words, *rest = numpy.random.get_state()
    return random.getstate(), (kind, tuple(words.tolist()), *rest)


def _restore(states: tuple[Any, ...]) -> None:
    random.setstate(states[0])
    if len(states) > 1:
        sys.modules["numpy"].random.set_state(states[1])
