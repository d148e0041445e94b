"""The bridge to floats: how near the model's own program comes to the located fixed point (T3, `Deqops.Perturbed`)."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from deqops._errors import InputError, UnsupportedOperationError
from deqops._tensorfile import TensorFile
from deqops.graph import OperatorGraph

from .._certificate import Certificate
from .._perturbed import RoundingFloor, rounding_floor
from ._locate import Location


def float_floor(
    certificate: Certificate, model: OperatorGraph, inputs: TensorFile, location: Location
) -> RoundingFloor | str:
    """T3 on a ball around the located point, in the dtypes of the model; or why there is none.

    The distance of the program from the exact map is bounded by a running error analysis (`rounding_floor`), not in
    Coq; the theorem that turns it into a distance from the fixed point is proven there.
    """
    leaves, structure = pytree.tree_flatten(inputs.state)
    if len(leaves) != 1 or leaves[0].numel() != len(location.box.centers):
        return "the located point is only a part of the state"
    point = torch.from_numpy(location.center).reshape(leaves[0].shape).to(leaves[0].dtype)
    try:
        return rounding_floor(certificate, model, pytree.tree_unflatten([point], structure), *inputs.inputs)
    except (InputError, UnsupportedOperationError) as error:
        return str(error)


def describe_floor(floor: RoundingFloor | str) -> str:
    """A line for people."""
    if isinstance(floor, str):
        return f"no bound of the float program's distance: {floor}"
    assumed = [h.name for h in floor.hypotheses if "accuracy" in h.name]
    on = f", assuming {'; '.join(sorted(set(assumed)))}" if assumed else ""
    return (
        f"the program in its own dtype is within {float(floor.delta.max()):.3g} of the exact map near there, so its "
        f"iterates come within {float(floor.floor.linf.max()):.3g} of the fixed point in every entry (T3{on})"
    )
