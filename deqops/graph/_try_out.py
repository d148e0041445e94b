"""A module run twice on its example: for its own error message, and for what it keeps between calls.

An export holds one run of a module's Python code. What a module remembers in its attributes, counts, or draws from
Python's generators is a constant of the graph then, and no operation of it tells.
"""

from __future__ import annotations

import math
import random
import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops.graph._tree import tree_of

_OTHER_RESULTS = "gives another result when it is called again with the same arguments"
_DRAWS = "random: draws numbers from Python's or NumPy's generator"


def tried_out(module: nn.Module, example: tuple[Any, ...]) -> list[str]:
    """Why a module is not one fixed map, as far as two runs show; its buffers and the generators stay as they are.

    Results may differ by rounding: sums on several threads do.
    """
    before = _generators()
    first = _run(module, example)
    tree_of(first, "operator: its result")
    drew = _generators() != before
    _restore(before)
    second = _run(module, example)
    _restore(before)
    if drew:
        return [_DRAWS]
    return [] if _agree(first, second) else [_OTHER_RESULTS]


def _run(module: nn.Module, example: tuple[Any, ...]) -> Any:
    """A buffer of several names goes by the first of them, and stays one tensor."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    copies = pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, example)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        result = torch.func.functional_call(module, buffers, copies)
        return pytree.tree_map(lambda t: t.clone() if isinstance(t, Tensor) else t, result)


def _agree(first: Any, second: Any) -> bool:
    (ones, tree), (twos, other) = pytree.tree_flatten(first), pytree.tree_flatten(second)
    return tree == other and all(map(_alike, ones, twos))


def _alike(one: Any, two: Any) -> bool:
    if not isinstance(one, Tensor) or not isinstance(two, Tensor):
        return type(one) is type(two)
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    if not one.is_floating_point() and not one.is_complex():
        return torch.equal(one, two)
    close = math.sqrt(torch.finfo(one.dtype).eps)
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
