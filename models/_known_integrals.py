"""Integral equations with known solutions: T7's bound of Nystrom's method and of collocation against truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from deqops import OperatorEquation, Picard, Tolerance, solve
from deqops._errors import InputError

from ._nystrom import Kernel, Nystrom, Rule, collocation_rule, fredholm_rule

if TYPE_CHECKING:
    from deqops.verify import KernelBounds

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class KnownEquation:
    """`y(t) = f(t) + scale * integral over [0, 1] of K(t, s, y(s)) ds`, |K(t, s, u) - K(t, s, v)| <= |u - v|.

    Attributes:
        title: the equation.
        scale: lambda, modulus below 1.
        kernel: K.
        f: the given function.
        solution: y*.
        suprema: of |K| and of its derivatives, as `KernelBounds`: size, t, tt, s, ss, u, uu, su, for all u that occur.
        f_slope: bound of |f'|.
        f_curvature: bound of |f''|.
        curvature: bound of |y*''|.
        smooth: bounds of the p-th derivative of `K(t, ., y_h(.))`, by p, for Gauss' rules.
    """

    title: str
    scale: float
    kernel: Kernel
    f: Function
    solution: Function
    suprema: tuple[float, float, float, float, float, float, float, float]
    f_slope: float
    f_curvature: float
    curvature: float
    smooth: Mapping[int, float]

    def kernel_bounds(self) -> KernelBounds:
        """The suprema, as T7 takes them."""
        from deqops.verify import KernelBounds

        return KernelBounds(*self.suprema)


class ComparedSolution(NamedTuple):
    """A discrete solution against the true one, at the points; of a broken line also at the panels' middles.

    Attributes:
        error: the largest modulus of the difference, in floating point.
        bound: proven: T7's bound of the exact discrete solution, and how far the computed values are from that.
        rate: of the discrete equation's certificate (T1, sup norm).
    """

    error: float
    bound: float
    rate: float


def nystrom_compared(equation: KnownEquation, name: str, panels: int) -> ComparedSolution:
    """Nystrom's method on one of the `KNOWN_EQUATIONS` equations.

    Args:
        equation: one of them.
        name: "midpoint", "trapezoid", "gauss2" or "gauss3"; Gauss' rules where `equation.smooth` has their order.
        panels: equal panels.

    Raises:
        InputError: a rule that is unknown, or that the equation has no derivatives for.
    """
    from deqops.verify import kernel_defect, nystrom_bound, quadrature

    rule = quadrature(name, 0.0, 1.0, panels)
    if rule.order == 2:
        defect = kernel_defect(rule, equation.scale, equation.kernel_bounds(), equation.f_slope, equation.f_curvature)
    elif rule.order in equation.smooth:
        size, slope = _integrand_bounds(equation)
        defect = rule.defect_bound(equation.smooth[rule.order], slope=slope, size=size)
    else:
        raise InputError(f"name: got {name!r}; this equation brings no derivatives of order {rule.order}")
    continuum = nystrom_bound(rule, equation.scale, 1.0, defect).error
    return _compared(equation, fredholm_rule(name, panels), continuum)


def collocation_compared(equation: KnownEquation, panels: int) -> ComparedSolution:
    """Collocation with broken lines on an equation with `K(t, s, u) = t s u`, whose integrals "gauss2" takes exactly.

    `||y* - P y*|| <= h^2/8 sup|y*''|`, and T has the constant 1/2 = sup over t of the integral of t s. What the
    rounding of nodes, weights and interpolation adds is bounded as a defect of the rule.

    Args:
        equation: as above.
        panels: a power of two, so that the points are exact.

    Raises:
        InputError: another kernel or number of panels.
    """
    from deqops.verify import nystrom_bound, projection_bound, quadrature

    if equation.kernel is not _product:
        raise InputError(f"equation: {equation.title} is not one with the kernel t s u")
    if panels < 1 or panels & (panels - 1):
        raise InputError(f"panels: got {panels}; choose a power of two")
    rule = quadrature("gauss2", 0.0, 1.0, panels)
    distance = equation.curvature / (8.0 * panels * panels) * (1 + 2.0**-50)
    projected = projection_bound(abs(equation.scale) / 2, 1.0, distance).error
    size, slope = _integrand_bounds(equation)
    # A row of the interpolation is off by at most 2 (panels + 2) 2^-53 in sum; |y| <= size, as for the kernel.
    defect = rule.defect_bound(0.0, slope=slope, size=size) + panels * 2.0**-49 * size
    rounded = nystrom_bound(rule, equation.scale, 1.0, defect).error
    return _compared(equation, collocation_rule("gauss2", panels), math.nextafter(projected + rounded, math.inf))


def _integrand_bounds(equation: KnownEquation) -> tuple[float, float]:
    """Bounds of |K(t, s, y_h(s))| and of its slope in s: `|K_s| + |K_u| (|f'| + |lambda| sup|K_t|)`."""
    bounds = equation.kernel_bounds()
    slope = bounds.s + bounds.u * (equation.f_slope + abs(equation.scale) * bounds.t)
    return bounds.size, slope * (1 + 2.0**-48)  # the stored weights add up to 1 but for rounding


def _compared(equation: KnownEquation, rule: Rule, bound: float) -> ComparedSolution:
    """Solve the discrete equation, and take in how far the computed values are from its exact solution."""
    from deqops.verify import certify

    G = OperatorEquation(Nystrom(equation.kernel, rule), _Offset(equation.f, rule.points), equation.scale)
    start = torch.zeros(len(rule.points), 1, dtype=torch.float64)
    certificate = certify(G, start, norm="linf", theorem="picard", batch_dims=0)
    found = solve(
        G, start, solver=Picard(), tolerance=Tolerance(absolute=1e-14, relative=0.0), batch_dims=0, throw=False
    )
    node_error = float(certificate.error_bound(G, found.value).linf.max())
    points, values = rule.points[:, None], found.value
    if rule.values is not None:  # a broken line is farthest from a curve between the points
        points, values = (torch.cat([part, (part[1:] + part[:-1]) / 2]) for part in (points, values))
    error = float((values - equation.solution(points)).abs().max())
    total = math.nextafter(bound + node_error, math.inf)
    return ComparedSolution(error, total, float(certificate.rate or math.inf))


class _Offset(nn.Module):
    """f at the points, computed in the graph: the exact function of the stored points is meant."""

    def __init__(self, f: Function, points: Tensor) -> None:
        super().__init__()
        self.f = f
        self.points: Tensor
        self.register_buffer("points", points[:, None])

    def forward(self, *inputs: Tensor) -> Tensor:
        """(points, 1)."""
        return self.f(self.points)


def _product(t: Tensor, s: Tensor, u: Tensor) -> Tensor:
    return t * s * u


def _one(t: Tensor) -> Tensor:
    return torch.ones((), dtype=t.dtype)


def _tanh_moment(t: Tensor) -> Tensor:
    """The integral of tanh(s) over [0, 1]: log cosh 1."""
    return torch.log((torch.exp(_one(t)) + torch.exp(-_one(t))) / 2)


def _decay_moment(t: Tensor) -> Tensor:
    """The integral of s e^-s over [0, 1]: 1 - 2/e."""
    return 1 - 2 * torch.exp(-_one(t))


KNOWN_EQUATIONS: dict[str, KnownEquation] = {
    "linear": KnownEquation(
        title="y(t) = t^2 + 1/2 ∫ t s y(s) ds, y = t^2 + 3 t/20",
        scale=0.5,
        kernel=_product,
        f=torch.square,
        solution=lambda t: t * t + 3 * t / 20,
        # sup |y_h| <= 1/(1 - 1/2 sum w_j s_j) <= 4/3 (1 + rounding), since every rule takes the integral of s exactly
        suprema=(1.5, 1.5, 0.0, 1.5, 0.0, 1.0, 0.0, 1.0),
        f_slope=2.0,
        f_curvature=2.0,
        curvature=2.0,
        smooth={4: 0.0, 6: 0.0},  # the integrand is a cubic
    ),
    "tanh": KnownEquation(
        title="y(t) = f(t) + 1/2 ∫ t tanh(y(s)) ds, y = t",
        scale=0.5,
        kernel=lambda t, s, u: t * torch.tanh(u),
        f=lambda t: t - 0.5 * _tanh_moment(t) * t,
        solution=lambda t: t,
        suprema=(1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.77, 0.0),
        f_slope=1.0,
        f_curvature=0.0,
        curvature=0.0,
        # y_h = m t, |m| <= 0.784 + |m|/4 (1 + rounding), so |m| <= 1.05; tanh's 4th derivative is at most 4.1 in
        # modulus, its 6th at most 52.4
        smooth={4: 5.0, 6: 71.0},
    ),
    "exponential": KnownEquation(
        title="y(t) = f(t) + 1/2 ∫ e^(t - s - 1) y(s) ds, y = t",
        scale=0.5,
        kernel=lambda t, s, u: torch.exp(t - s - 1) * u,
        f=lambda t: t - 0.5 * _decay_moment(t) * torch.exp(t - 1),
        solution=lambda t: t,
        # sup |y_h| <= 0.87/(1 - 1/2 (1 + rounding)) <= 2
        suprema=(2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 0.0, 1.0),
        f_slope=1.0,
        f_curvature=0.2,
        curvature=0.0,
        # y_h(s) = s + c e^s: the integrand is e^(t - 1) times s e^-s and a constant
        smooth={4: 4.0, 6: 6.0},
    ),
}
"""Fredholm equations on [0, 1], each with kappa = 1."""
