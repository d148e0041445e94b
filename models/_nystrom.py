"""Integral equations on points: quadrature, collocation, and Volterra's triangle of weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deqops._errors import InputError

Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`K(t, s, u)`: t (points, 1, 1), s (nodes, 1) and u (..., 1, nodes, channels) give (..., points, nodes, channels)."""


class Rule(NamedTuple):
    """Where an equation on [0, 1] is held, and how it integrates.

    Attributes:
        points: t_i (points,), where the state lives.
        nodes: s_j (nodes,), where the integrand is taken.
        weights: w_ij (points, nodes): the integral for t_i is about `sum_j w_ij g(s_j)`.
        values: (nodes, points), from the state's values at the points to values at the nodes; None where the nodes
            are the points.
    """

    points: Tensor
    nodes: Tensor
    weights: Tensor
    values: Tensor | None = None

    def to(self, dtype: torch.dtype) -> Rule:
        """Rounded to a dtype."""
        return Rule(*(None if part is None else part.to(dtype) for part in self))  # type: ignore[arg-type]


class Nystrom(nn.Module):
    """`T(y)_i = sum_j w_ij K(t_i, s_j, y(s_j))`: the integral operator between values at points.

    Where |K(t, s, u) - K(t, s, v)| <= kappa |u - v| (sup norms) T has the constant `kappa max_i sum_j |w_ij|`, times
    1 for the interpolation of `collocation`. Where `w_ij = 0` for j >= i, T is strictly causal (T8).

    Args:
        kernel: K, a module or function.
        rule: points, nodes and weights, of the dtype of the states.
    """

    def __init__(self, kernel: Kernel, rule: Rule) -> None:
        super().__init__()
        self.kernel = kernel
        self.points: Tensor
        self.nodes: Tensor
        self.weights: Tensor
        self.values: Tensor | None
        for name, part in rule._asdict().items():
            self.register_buffer(name, None if part is None else part.clone(), persistent=False)

    def forward(self, y: Tensor, *inputs: Tensor) -> Tensor:
        """(..., points, channels) of the same; inputs of the equation do not enter."""
        u = y if self.values is None else self.values @ y
        integrand = self.kernel(self.points[:, None, None], self.nodes[:, None], u.unsqueeze(-3))
        # A product with rows, not with numbers and then a sum: its norm is the largest row sum.
        return (self.weights.unsqueeze(-2) @ integrand).squeeze(-2)


def fredholm_rule(name: str, panels: int) -> Rule:
    """Nystrom's method on [0, 1]: points and nodes of a composite rule, the same weights for all t; float64.

    Args:
        name: of a rule of `deqops.verify.quadrature`: "midpoint", "trapezoid", "gauss2" or "gauss3".
        panels: equal panels.

    Raises:
        InputError: an unknown rule, or no panel.
    """
    from deqops.verify import quadrature

    rule = quadrature(name, 0.0, 1.0, panels)
    return Rule(rule.nodes, rule.nodes, rule.weights.expand(len(rule.nodes), -1).clone())


def volterra_rule(name: str, panels: int) -> Rule:
    """Integrals from 0 to t_i on `t_i = i / panels`, i from 0 to `panels`; float64.

    "rectangle" takes the integrand at the panels' left ends: of order 1, strictly causal, and so explicit (T8).
    "trapezoid" is of order 2; its diagonal makes the equations implicit, and a contraction is needed (T1).

    Raises:
        InputError: an unknown rule, or no panel.
    """
    if name not in ("rectangle", "trapezoid"):
        raise InputError(f"name: got {name!r}; choose rectangle or trapezoid")
    if panels < 1:
        raise InputError(f"panels: got {panels}; choose at least 1")
    points = torch.arange(panels + 1, dtype=torch.float64) / panels
    ones = torch.ones(panels + 1, panels + 1, dtype=torch.float64)
    left = ones.tril(-1) / panels
    if name == "rectangle":
        return Rule(points, points, left)
    right = ones.tril().index_fill(1, torch.tensor([0]), 0.0) / panels
    return Rule(points, points, (left + right) / 2)


def collocation_rule(name: str, panels: int) -> Rule:
    """Collocation at `t_i = i / panels` with broken lines: `y_P = P f + lambda P T(y_P)`, P interpolation, ||P|| = 1.

    The state holds y_P at the panels' ends, and the integral is taken by the rule, at values of the broken line.

    Args:
        name: as for `fredholm_rule`; float64.
        panels: equal panels.

    Raises:
        InputError: an unknown rule, or no panel.
    """
    rule = fredholm_rule(name, panels)
    points = torch.arange(panels + 1, dtype=torch.float64) / panels
    place = rule.nodes * panels
    left = place.floor().clamp(max=panels - 1)
    values = torch.zeros(len(rule.nodes), panels + 1, dtype=torch.float64)
    values.scatter_(1, left.long()[:, None], (1 - (place - left))[:, None])
    values.scatter_(1, left.long()[:, None] + 1, (place - left)[:, None])
    return Rule(points, rule.nodes, rule.weights[:1].expand(panels + 1, -1).clone(), values)
