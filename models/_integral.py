"""Neural integral equations: a function on points that solves `y(t) = f(t) + integral of K(t, s, y(s)) ds`.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618, section 3; and
Zappala et al.: Neural Integral Equations, arXiv:2209.15190.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, OperatorEquation, Picard, Solver, Tolerance
from deqops._errors import InputError
from deqops._numbers import as_number, is_count

from ._integral_kernels import Attention, KernelNetwork, around, neighbours
from ._nystrom import Rule

MAX_EVALUATIONS = 200
KERNELS = ("network", "attention")


class NIE(nn.Module):
    """FunctionPairs `R y` of the solution y of `y(t) = E x(t) + T(y)(t)`, E and R linear, T an integral operator.

    Values y(t) are functions on a periodic grid of places, one place for plain functions of time. The state holds y at
    the rule's points, (batch, points, places, channels), and the integrals are its quadrature. What is proven of it
    depends on kernel and rule:

    - "network", a Fredholm rule: `T(y)(t) = integral over [0, 1] of K(t, s, y(s)) ds` with K a `KernelNetwork`. With
      constant kappa below 1 it is a contraction in the sup norm whatever x is (T1).
    - "network", a strictly lower triangle of weights: Volterra's equation, integrals from 0 to t. K needs no constant:
      as many sweeps as there are points reach the solution exactly (T8).
    - "attention": `Attention` for T. No constant is small by itself; certificates are local (T2, T12, T6).

    E starts orthogonal and R as its transpose, so that R E = I where channels suffice: iteration starts from x itself.

    Args:
        inputs: columns of x.
        outputs: columns of the result.
        rule: points and weights, of x's dtype.
        grid: places in each direction of a periodic grid; () for functions of time alone.
        reach: the kernel sees a place with those at most so many steps away in each direction.
        kernel: "network" or "attention".
        channels: columns of the state.
        hidden: of kernel or attention.
        width: of the networks of the times.
        heads: of the attention; a divisor of `hidden`.
        constant: kappa of the kernel network, as there; `math.inf` leaves it free.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications `y <- E x + T(y)` from `y = E x`.
        solver: of the equilibrium and of its gradient; None: Anderson with a short memory.
        tolerance: of both; None: relative 1e-3.

    Raises:
        InputError: a number is out of range, or attention is asked for weights that are not positive.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rule: Rule,
        *,
        grid: Sequence[int] = (),
        reach: int = 2,
        kernel: str = "network",
        channels: int = 4,
        hidden: int = 32,
        width: int = 16,
        heads: int = 2,
        constant: float = math.inf,
        steps: int = 0,
        solver: Solver | None = None,
        tolerance: Tolerance | None = None,
    ) -> None:
        super().__init__()
        check_options(kernel, channels, hidden, width, heads, reach, constant, steps)
        if kernel == "attention" and not bool((rule.weights > 0).all()):
            raise InputError("rule: attention needs positive weights; take a Fredholm rule")
        self.steps = steps
        self.points = len(rule.points)
        self.channels = channels
        lift, self.readout = nn.Linear(inputs, channels), nn.Linear(channels, outputs)
        _start_as_identity(lift, self.readout)
        seen = neighbours(grid, reach)
        T: nn.Module
        if kernel == "network":
            T = KernelNetwork(channels, hidden, width, rule, seen, constant)
        else:
            T = Attention(channels, hidden, width, heads, rule, seen)
        solver = solver or (Picard() if _is_causal(rule) else Anderson(memory=5))
        tolerance = tolerance or Tolerance(relative=1e-3)
        self.layer = EquilibriumLayer(
            OperatorEquation(T, f=lift),
            solver=solver,
            adjoint=ImplicitAdjoint(solver, tolerance, max_evaluations=MAX_EVALUATIONS, derivatives=1),
            tolerance=tolerance,
            initial=ZeroFunction(self.points, channels),
            max_evaluations=MAX_EVALUATIONS,
        )

    @property
    def operator(self) -> OperatorEquation:
        """G(state, x): what is solved, exported and certified."""
        return cast(OperatorEquation, self.layer.operator)

    def state(self, x: Tensor) -> Tensor:
        """y: (batch, points, places, channels), the equilibrium, or what `steps` applications give."""
        if self.steps == 0:
            solved: Tensor = self.layer(x)
            return solved
        return next(islice(self.iterates(x), self.steps, None))

    def iterates(self, x: Tensor) -> Iterator[Tensor]:
        """The states `y <- E x + T(y)` from `y = E x` on, without end."""
        image_of = self.operator.at_inputs(x)
        lifted: Tensor = self.operator.f(x)  # type: ignore[operator, misc]
        state = lifted.expand(-1, self.points, -1, -1)
        while True:
            yield state
            state = image_of(state)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, points, places, inputs), one point where it is constant; gives (batch, points, places, outputs)."""
        result: Tensor = self.readout(self.state(x))
        return result

    def on(self, rule: Rule) -> None:
        """Put the same kernel on other points: the weights that were learned know functions, not points."""
        T = cast(nn.Module, self.operator.T)
        T.points = rule.points.clone()
        if isinstance(T, Attention):
            T.log_weights = rule.weights.log()
        else:
            T.weights = rule.weights.clone()
        self.points = len(rule.points)
        self.layer.initial = ZeroFunction(self.points, self.channels)


class PlainOperator(nn.Module):
    """The baseline without iteration: `x(t) + R tanh(D tanh(A x + a) + tau(t))`, A seeing x at all points and places.

    tau is linear, the places are treated alike, and the hidden layers are as wide as a number of weights allows.

    Args:
        inputs: columns of x.
        outputs: columns of the result, as many as those of x.
        given: points of x, 1 for functions that are constant.
        rule: points of the result.
        grid: as for `NIE`.
        weights: at most so many, biases included.
    """

    def __init__(
        self, inputs: int, outputs: int, given: int, rule: Rule, weights: int, grid: Sequence[int] = ()
    ) -> None:
        super().__init__()
        seen = neighbours(grid, max(grid, default=0))
        linear = inputs * given * seen.shape[1] + 4 + outputs
        hidden = max(1, int((math.sqrt(linear**2 + 4 * (weights - outputs)) - linear) / 2))
        self.A, self.D = nn.Linear(inputs * given * seen.shape[1], hidden), nn.Linear(hidden, hidden)
        self.time, self.R = nn.Linear(1, hidden), nn.Linear(hidden, outputs)
        self.points: Tensor
        self.seen: Tensor
        self.register_buffer("points", rule.points[:, None, None].clone(), persistent=False)
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """As `NIE`."""
        everything = around(x.transpose(1, 2).flatten(2), self.seen)  # (batch, places, all of x)
        code = self.D(torch.tanh(self.A(everything)))[:, None]
        result: Tensor = x + self.R(torch.tanh(code + self.time(self.points)))
        return result


@dataclass(frozen=True)
class ZeroFunction:
    """The start of a solve: zeros at every point."""

    points: int
    channels: int

    def __call__(self, x: Tensor) -> Tensor:
        """Zeros (batch, points, places, channels) of x's dtype and device."""
        return x.new_zeros(len(x), self.points, x.shape[2], self.channels)


def _is_causal(rule: Rule) -> bool:
    return bool((rule.weights.triu() == 0).all())


def _start_as_identity(lift: nn.Linear, readout: nn.Linear) -> None:
    nn.init.orthogonal_(lift.weight)
    nn.init.zeros_(lift.bias)
    nn.init.zeros_(readout.bias)
    if lift.in_features == readout.out_features:
        with torch.no_grad():
            readout.weight.copy_(lift.weight.T)


def check_options(
    kernel: str, channels: int, hidden: int, width: int, heads: int, reach: int, constant: float, steps: int
) -> None:
    """Raises InputError where an option of an NIE is out of range."""
    if kernel not in KERNELS:
        raise InputError(f"kernel: got {kernel!r}; choose from {', '.join(KERNELS)}")
    for name, value in (("channels", channels), ("hidden", hidden), ("width", width), ("heads", heads)):
        if not is_count(value, 1):
            raise InputError(f"{name}: got {value!r}; choose a whole number of at least 1")
    if kernel == "attention" and hidden % heads:
        raise InputError(f"heads: got {heads!r}; choose a divisor of hidden, which is {hidden}")
    if not is_count(reach):
        raise InputError(f"reach: got {reach!r}; choose 0 or a number of steps")
    if not as_number(constant) > 0:
        raise InputError(f"constant: got {constant!r}; choose a positive bound, below 1 for a contraction")
    if not is_count(steps):
        raise InputError(f"steps: got {steps!r}; choose 0 for the equilibrium, or a number of applications")
