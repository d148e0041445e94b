"""Does the program that an export made give what the module itself gives?

The graph and its comparison with the program begin at what `torch.export` saw: a branch that a module takes only while
it is exported or compiled, an operation that a mode changes outside the export's sight, a tensor that is stored as
another than it was. The module's own result, without an export, shows these.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from deqops.graph._comparable import coarsest_of, moved_a_little
from deqops.graph._interpret import run
from deqops.graph._program import Argument, Program
from deqops.graph._reader import Source
from deqops.graph._try_out import alike, run_once

_EPS_ELSEWHERE = 2.0**-10  # of products on accelerators, whose float32 factors may be rounded


def is_as_computed(source: Source, module: nn.Module, example: tuple[Any, ...]) -> bool:
    """Whether they agree at the example and beside it, up to rounding.

    Nothing is said where one of the two cannot be run: beside the example the module may be undefined.
    """
    return all(_is_as_computed_at(source, module, point) for point in (example, _beside(example)))


def _is_as_computed_at(source: Source, module: nn.Module, point: tuple[Any, ...]) -> bool:
    trees = zip(source.arguments.children, point, strict=True)
    leaves: list[Tensor] = [leaf for tree, value in trees for leaf in tree.flatten(value, "argument")]
    try:
        expected = source.output_tree.flatten(run_once(module, point), "result")
        with torch.no_grad():
            computed = run(source.program, [leaf.cpu() for leaf in leaves], source.constants)
    except Exception:  # of the module's own kind, too
        return True
    eps = _coarsest(source.program, [*leaves, *source.constants.values(), *computed])
    return all(alike(one.cpu(), two, eps) for one, two in zip(expected, computed, strict=True))


def _beside(example: tuple[Any, ...]) -> tuple[Any, ...]:
    """The example with another state, where it is one of floating tensors."""
    leaves, tree = pytree.tree_flatten(example[0])
    if not all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
        return example
    return (pytree.tree_unflatten(moved_a_little(leaves), tree), *example[1:])


def _coarsest(program: Program, tensors: list[Tensor]) -> float:
    """The coarsest unit roundoff of these tensors and of the dtypes that a program's operations name."""
    named = [dtype for i in program.instructions for _, argument in i.arguments for dtype in _dtypes(argument)]
    elsewhere = any(tensor.device.type != "cpu" for tensor in tensors)
    return max(coarsest_of([*named, *(tensor.dtype for tensor in tensors)]), _EPS_ELSEWHERE if elsewhere else 0.0)


def _dtypes(argument: Argument) -> list[torch.dtype]:
    if isinstance(argument, tuple):
        return [dtype for item in argument for dtype in _dtypes(item)]
    return [argument] if isinstance(argument, torch.dtype) else []
