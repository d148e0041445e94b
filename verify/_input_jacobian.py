"""The Jacobian with respect to an input: the operator graph with that input in the state's place.

`x -> G(y, x)` for every y: what is computed from the state counts as constant, and a bound that used any of the
state's values is refused, so what remains holds for all states.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from deqops._errors import InputError, UnsupportedOperationError
from deqops._numbers import is_count
from deqops.graph import ConcreteGraph, Leaf, MixesProblemsError, check_independent

from ._enclosures import Constants
from ._expansion import Expansion, expanded
from ._gains import apply_magnitude, apply_magnitude_transposed, carried, sloped_norm
from ._jacobian import Basis, Builder, Combination, Elementwise, Jacobian, StateLeaf
from ._norm import Norm, Order
from ._problem import Problem
from ._rounding import add_up, mul_up
from ._spectral import spectral_norm_bound


@dataclass(frozen=True, eq=False)
class InputJacobian:
    """The expression of `dG/dx`, for every state.

    Attributes:
        jacobian: outputs are the state's leaves, its one variable is the input.
        builder: which built it, with the combination of every value.
        touched: positions of the other inputs whose values were used.
        batch_dims: of the state.
        per_problem: whether dimension 0 of the input counts the same independent problems.
    """

    jacobian: Jacobian
    builder: Builder
    touched: frozenset[int]
    batch_dims: int
    per_problem: bool

    @cached_property
    def size(self) -> int:
        """Numbers in the input, of one problem where it has one row per problem."""
        shape = _leaf(self.jacobian).shape
        return math.prod(shape[1:] if self.per_problem else shape)


def input_jacobian(problem: Problem, position: int) -> InputJacobian:
    """The Jacobian with respect to the input leaf numbered `position`, uniformly over states.

    Raises:
        InputError: there is no such input, or it is no floating tensor.
        UnsupportedOperationError: an operation has no rule, or a bound would depend on the state.
    """
    graph = _swapped(problem.graph, position)
    constants = Constants(graph)
    builder, jacobian = _built(graph, constants)
    inputs = len(problem.graph.inputs)
    if any(p >= inputs for p in constants.touched):
        raise UnsupportedOperationError("operator", "multiplies the input by the state: no bound holds for all states")
    touched = frozenset(constants.touched)
    return InputJacobian(jacobian, builder, touched, problem.batch_dims, _keeps_problems_apart(problem, graph))


def _built(graph: ConcreteGraph, constants: Constants) -> tuple[Builder, Jacobian]:
    def build(expansion: Expansion) -> tuple[Builder, Jacobian]:
        builder = Builder(graph, constants, expansion=expansion)
        return builder, builder.build()

    return expanded(build)


def _swapped(graph: ConcreteGraph, position: int) -> ConcreteGraph:
    if not is_count(position) or position >= len(graph.inputs):
        raise InputError(f"input: got {position!r}, the operator has inputs 0 to {len(graph.inputs) - 1}")
    chosen = graph.inputs[position]
    leaf = graph.leaves[chosen]
    if not leaf.tensor.is_floating_point():
        raise InputError(f"input {leaf.name}: a floating input is needed, it holds {leaf.tensor.dtype}")
    leaves = dict(graph.leaves)
    leaves[chosen] = Leaf("state", 0, leaf.name, leaf.tensor)
    for number, value in enumerate(graph.state):
        place = len(graph.inputs) + number
        leaves[value] = Leaf("input", place, f"state_{number}", graph.leaves[value].tensor, frozenset({place}))
    return ConcreteGraph(leaves, graph.nodes, graph.outputs, graph.batch_dims, graph.fingerprint, graph.input_names)


def _keeps_problems_apart(problem: Problem, swapped: ConcreteGraph) -> bool:
    if problem.batch_dims == 0:
        return False
    shape = swapped.shape(swapped.state[0])
    if not shape or shape[0] != problem.example[0].shape[0]:
        return False
    try:
        check_independent(swapped)
    except (MixesProblemsError, UnsupportedOperationError):
        return False
    return True


# ----------------------------------------------------------------------------------------------------- its norm


def input_gain(x: InputJacobian, norm: Norm, input_norm: Order) -> float:
    """Proven `L_x` of `||G(y, x) - G(y, x')|| <= L_x ||x - x'||` for all states y; infinite where there is none.

    Args:
        x: the Jacobian.
        norm: of the state.
        input_norm: of the input, unweighted.
    """
    if norm.order == "l2":
        bound = _l2_gain(x, norm, x.jacobian.outputs)
    elif norm.order == "linf":
        image = apply_magnitude(x.jacobian, [torch.ones(_leaf(x.jacobian).shape, dtype=torch.float64)])
        bound = _largest([mul_up(part, w) for part, w in zip(image, _weights(x, norm), strict=True)])
    else:
        bound = _largest(apply_magnitude_transposed(x.jacobian, _weights(x, norm)))
    total = float(mul_up(bound, _conversion(norm.order, input_norm, x.size)))
    return total if total < math.inf else math.inf


def source_gain(x: InputJacobian, norm: Norm, source: Combination) -> float:
    """The same in l2 for a value inside the graph that has the state's shape."""
    return _l2_gain(x, norm, (source,))


def _conversion(order: Order, given: Order, size: int) -> float:
    """c of `||x||_order <= c ||x||_given` for x of `size` entries."""
    rank = {"l1": 0, "l2": 1, "linf": 2}
    if rank[given] <= rank[order]:
        return 1.0
    if (order, given) == ("l1", "linf"):
        return float(size)
    return math.nextafter(math.sqrt(size), math.inf)


def _leaf(jacobian: Jacobian) -> StateLeaf:
    return next(basis for basis in jacobian.bases if isinstance(basis, StateLeaf))


def _weights(x: InputJacobian, norm: Norm) -> list[Tensor]:
    weights = []
    for number, output in enumerate(x.jacobian.outputs):
        weight = norm.weight(number)
        if weight is None:
            weights.append(torch.ones(output.shape, dtype=torch.float64))
        else:
            weights.append((weight[None] if x.batch_dims else weight).expand(output.shape))
    return weights


def _largest(parts: list[Tensor]) -> float:
    found = [part.max() for part in parts if part.numel()]
    return float(torch.stack(found).max()) if found else 0.0


def _l2_gain(x: InputJacobian, norm: Norm, outputs: tuple[Combination, ...]) -> float:
    """Products of norms; weights that vary along the last dimension alone are followed inside, others bounded."""
    rows = [_last_axis(norm, number) for number in range(len(outputs))]
    first = (outputs[0].shape, rows[0]) if rows[0] is not None else None
    gains: list[float] = []
    for basis in x.jacobian.bases:
        if isinstance(basis, StateLeaf):
            gains.append(1.0)
        else:
            gains.append(_reach(basis.source, x.jacobian.bases, gains, _inner(basis, first), basis.gain, first))
    totals = []
    for number, output in enumerate(outputs):
        weight, row = norm.weight(number), rows[number]
        total = _reach(output, x.jacobian.bases, gains, row, 1.0, first)
        varies = weight is not None and row is None
        totals.append(float(mul_up(total, float(weight.max()))) if varies and weight is not None else total)
    if not all(math.isfinite(total) for total in totals):
        return math.inf
    return totals[0] if len(totals) == 1 else float(spectral_norm_bound(torch.tensor(totals, dtype=torch.float64)))


Followed = tuple[tuple[int, ...], Tensor] | None


def _last_axis(norm: Norm, leaf: int) -> Tensor | None:
    weight = norm.weight(leaf)
    if weight is None or weight.ndim == 0 or not weight.numel():
        return None
    rows = weight.reshape(-1, weight.shape[-1])
    return rows[0] if bool((rows == rows[0]).all()) else None


def _inner(basis: Basis, followed: Followed) -> Tensor | None:
    """The weights a value inside the graph carries: the first output's where it has that shape."""
    if followed is None or isinstance(basis, StateLeaf) or basis.shape != followed[0]:
        return None
    return carried(basis, followed[1])


def _reach(
    combination: Combination,
    bases: tuple[Basis, ...],
    gains: list[float],
    row: Tensor | None,
    slope: Tensor | float,
    followed: Followed,
) -> float:
    total = 0.0
    for k, maps in combination.terms.items():
        for one in maps:
            bound = sloped_norm(one, slope, row, _inner(bases[k], followed))
            total = float(add_up(total, mul_up(gains[k], bound)))
    return total


# ----------------------------------------------------------------------------------------------- a single layer


@dataclass(frozen=True, eq=False)
class SharedUnit:
    """The one elementwise function of `G(y, x) = scale * s(W y + c(x))`, seen from the input.

    Attributes:
        name: of s.
        output: the value of the graph that s computes.
        source: `c(x)`'s differential over the input's Jacobian.
    """

    name: str
    output: int
    source: Combination


def shared_unit(problem: Problem, x: InputJacobian) -> SharedUnit | None:
    """s of `G(y, x) = scale * s(W y + c(x))` where state and input meet in it alone; None for another form."""
    whole, state = _built(problem.graph, problem.constants)
    mine, theirs = _only_unit(state), _only_unit(x.jacobian)
    if mine is None or theirs is None or len(state.bases) != 2:
        return None
    output, unit = _first_value(whole, mine), x.jacobian.bases[theirs]
    if output != _first_value(x.builder, theirs) or not isinstance(unit, Elementwise):
        return None
    return SharedUnit(unit.name, output, unit.source)


def _only_unit(jacobian: Jacobian) -> int | None:
    """The basis value of which the single output is a multiple."""
    if len(jacobian.outputs) != 1 or len(jacobian.outputs[0].terms) != 1:
        return None
    ((number, maps),) = jacobian.outputs[0].terms.items()
    if len(maps) != 1 or maps[0].as_scaling() is None or not isinstance(jacobian.bases[number], Elementwise):
        return None
    return number


def _first_value(builder: Builder, number: int) -> int:
    """The value of the graph that made this basis value; later ones may be it plus a constant."""
    return min(value for value, combination in builder.combinations.items() if number in combination.terms)
