"""Does the graph as it was read give what the program gives?

A proof is about the graph that the reader made of an export; a rule of the reader that means another function would
make it a proof about another operator. So the graph's enclosure at the example state is compared with what torch
computes there, and near it, before anything is claimed. That is a test of the reader at two points, and no part of a
proof.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from deqops._errors import DeqopsError, UnsupportedOperationError
from deqops.graph import OperatorGraph, coarsest_eps, entries, moved_a_little

from ._input_box import middles
from ._midrad import MidRad
from ._problem import Problem

MOST_ENTRIES = 2**24
"""Of more weights, inputs and values together no further evaluation is made."""


def disagreement(operator: OperatorGraph, problem: Problem, inputs: tuple[Any, ...]) -> str:
    """Where the graph and the program differ at the example, or near it, by more than rounding; empty for nowhere.

    Nothing is said where the graph has no enclosure there, or where weights and values are too many (`MOST_ENTRIES`).
    """
    if entries(problem.written_out) > MOST_ENTRIES:
        return ""
    for where, leaves in (("at", problem.example), ("near", moved_a_little(problem.example))):
        far = _apart(operator, problem, leaves, inputs)
        if far:
            return (
                f"the graph as deqops reads it and the program differ {where} the example state, by {far:.3g} times "
                "what rounding explains; nothing is claimed (please report this operator)"
            )
    return ""


def require_agreement(operator: OperatorGraph, problem: Problem, inputs: tuple[Any, ...]) -> None:
    """Raise UnsupportedOperationError where they differ: nothing is bounded then."""
    differs = disagreement(operator, problem, inputs)
    if differs:
        raise UnsupportedOperationError("operator", f"is not read right: {differs}")


def _apart(operator: OperatorGraph, problem: Problem, leaves: list[Tensor], inputs: tuple[Any, ...]) -> float:
    """How far they are apart at a state, in multiples of what rounding explains; 0 for not at all."""
    try:
        with torch.no_grad(), problem.constants.untouched():
            image = problem.image(leaves)
            computed = pytree.tree_leaves(operator(pytree.tree_unflatten(leaves, problem.tree), *middles(inputs)))
    except DeqopsError:
        return 0.0
    tolerance = math.sqrt(coarsest_eps(problem.written_out, computed))
    return max((_farthest(box, value, tolerance) for box, value in zip(image, computed, strict=True)), default=0.0)


def _farthest(box: MidRad, value: Tensor, tolerance: float) -> float:
    """How far torch's value lies from the enclosure, in multiples of what rounding explains; 0 within it."""
    found = value.detach().cpu().to(torch.float64)
    enclosed = box.mid.isfinite() & box.rad.isfinite() & found.isfinite()  # torch's may be out of the dtype's range
    excess = ((found - box.mid).abs() - box.rad) / (tolerance * (1 + torch.maximum(found.abs(), box.mid.abs())))
    off = torch.where(enclosed, excess, 0.0)
    return float(off.max()) if off.numel() and bool((off > 1).any()) else 0.0
