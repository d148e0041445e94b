"""What neural integral equations learn: solutions of equations that are known, and trajectories."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deqops._errors import InputError, MissingDataError

from ._navier_stokes import navier_stokes
from ._nystrom import Rule, fredholm_rule, volterra_rule

_FINE = 40  # panels of "gauss3" that make the data


@dataclass(frozen=True, eq=False)
class FunctionPairs:
    """Pairs of functions on points of [0, 1], the first for training, then for validation, then for tests.

    Attributes:
        x: given (count, points, places, inputs) float32; one point where they are constant in time.
        y: wanted (count, points, places, outputs).
        quadrature: the rule of `fredholm_rule` whose points these are.
        panels: of that rule.
        training: pairs.
        validation: pairs; the others are the test set.
        grid: of the places, as for `NIE`.
    """

    x: Tensor
    y: Tensor
    quadrature: str
    panels: int
    training: int
    validation: int
    grid: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.training < 1 or self.validation < 1 or self.training + self.validation >= len(self.x):
            raise InputError(
                f"training, validation: got {self.training}, {self.validation} of {len(self.x)}; leave some of each"
            )

    def part(self, name: str) -> tuple[Tensor, Tensor]:
        """x and y of "train", "validation" or "test"."""
        first, second = self.training, self.training + self.validation
        chosen = {"train": slice(0, first), "validation": slice(first, second), "test": slice(second, None)}[name]
        return self.x[chosen], self.y[chosen]

    def rule(self, equation: str) -> Rule:
        """Points and weights of a "fredholm" or a strictly causal "volterra" equation, float32.

        Raises:
            InputError: another equation, or Volterra's where the points are not equidistant.
        """
        if equation == "fredholm":
            return fredholm_rule(self.quadrature, self.panels).to(torch.float32)
        if equation != "volterra":
            raise InputError(f"equation: got {equation!r}; choose fredholm or volterra")
        if self.quadrature != "trapezoid":
            raise InputError("equation: volterra needs equidistant points from 0 to 1; these data have others")
        return volterra_rule("rectangle", self.panels).to(torch.float32)


def fredholm_functions(count: int = 1000, *, panels: int = 8, scale: float = 0.9, seed: int = 0) -> FunctionPairs:
    """Pairs (f, y) of `y(t) = f(t) + scale * integral over [0, 1] of sin(y(s))/(1 + (t - s)^2) ds`.

    y is drawn, f computed from it: y is the exact solution, the only one since `scale < 1` (T1), and f is exact to
    about 1e-10 (a rule of 120 points of order 6). Points are those of "gauss2".

    Args:
        count: pairs; 7/10 for training, 1/10 for validation.
        panels: of two points each.
        scale: lambda, modulus below 1.
        seed: of the functions.

    Raises:
        InputError: a number is out of range.
    """
    if not abs(scale) < 1:
        raise InputError(f"scale: got {scale}; the equation has one solution where its modulus is below 1")
    t = fredholm_rule("gauss2", panels).points
    fine = fredholm_rule("gauss3", _FINE)
    draw = _drawn(count, seed)
    kernel = fine.weights[0] / (1 + (t[:, None] - fine.nodes) ** 2)
    y = draw(t)
    f = y - scale * draw(fine.nodes).sin() @ kernel.T
    return _pairs(f, y, "gauss2", panels)


def volterra_functions(count: int = 1000, *, panels: int = 16, scale: float = 3.0, seed: int = 0) -> FunctionPairs:
    """Pairs (f, y) of `y(t) = f(t) + scale * integral from 0 to t of cos(2 (t - s)) sin(y(s)) ds`.

    As `fredholm_functions`, on equidistant points; here every scale has one solution.

    Args:
        count: pairs; 7/10 for training, 1/10 for validation.
        panels: between points.
        scale: lambda.
        seed: of the functions.

    Raises:
        InputError: a number is out of range.
    """
    t = fredholm_rule("trapezoid", panels).points
    fine = fredholm_rule("gauss3", _FINE)
    draw = _drawn(count, seed)
    y = draw(t)
    s = t[:, None] * fine.nodes  # (points, nodes): the rule on [0, t]
    kernel = t[:, None] * fine.weights[0] * torch.cos(2 * (t[:, None] - s))
    f = y - scale * (draw(s).sin() * kernel).sum(dim=-1)
    return _pairs(f, y, "trapezoid", panels)


def burgers_functions(root: Path, *, training: int = 900, validation: int = 100) -> FunctionPairs:
    """Trajectories of Burgers' equation, viscosity 0.01, on 16 points and 17 times, from their first frames.

    Args:
        root: a folder with `pde/burgers_lowres.npz`, the file of the PyPI package neuraloperator 0.3.0.
        training: trajectories, from the first on.
        validation: the next ones; the others are the test set.

    Returns:
        FunctionPairs: x (1200, 1, 16, 1) and y (1200, 17, 16, 1), in units of x's root mean square; t in [0, 1].

    Raises:
        InputError: the file is not there or holds other shapes; a number is out of range.
    """
    import numpy as np

    path = Path(root) / "pde" / "burgers_lowres.npz"
    if not path.is_file():
        raise MissingDataError(f"root: {path} is not there; it comes with the PyPI package neuraloperator 0.3.0")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            x, y = (torch.from_numpy(np.asarray(archive[name], dtype=np.float32)) for name in ("input", "output"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"root: {path} is no archive with arrays input and output") from error
    if x.ndim != 2 or y.shape != (len(x), 17, x.shape[1]) or not bool(x.isfinite().all() & y.isfinite().all()):
        raise InputError(f"root: {path} holds shapes {tuple(x.shape)} and {tuple(y.shape)}, or numbers not finite")
    unit = x.square().mean().sqrt()
    return FunctionPairs(
        x[:, None, :, None] / unit, y[..., None] / unit, "trapezoid", 16, training, validation, (x.shape[1],)
    )


def flow_functions(
    count: int = 400, *, size: int = 8, frames: int = 8, interval: float = 0.5, viscosity: float = 2e-2, seed: int = 0
) -> FunctionPairs:
    """Vorticities of Navier-Stokes flows on a coarse grid, from their first frames.

    `navier_stokes` on four times as many points a side, of which every fourth is kept.

    Args:
        count: flows; 7/10 for training, 1/10 for validation.
        size: points a side that are kept.
        frames: after the first; their times are scaled to [0, 1].
        interval: time from frame to frame.
        viscosity: as there.
        seed: of the initial fields.

    Raises:
        InputError: a number is out of range.
    """
    if size < 2:
        raise InputError(f"size: got {size}; choose at least 2")
    flows = navier_stokes(
        count,
        size=4 * size,
        frames=frames,
        interval=interval,
        viscosity=viscosity,
        modes=max(1, size // 2 - 1),
        seed=seed,
    )[..., ::4, ::4].flatten(2)
    return _split(flows[:, :1, :, None].contiguous(), flows[..., None].contiguous(), "trapezoid", frames, (size, size))


def _drawn(count: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Random functions, sums of cosines."""
    if count < 10:
        raise InputError(f"count: got {count}; choose at least 10")
    c = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    k = torch.arange(5, dtype=torch.float64)

    def at(t: Tensor) -> Tensor:
        """(count, *t.shape)."""
        return torch.einsum("nk,k...->n...", c, torch.cos(torch.pi * _after(k, t) * t) / (1 + _after(k, t)))

    return at


def _after(k: Tensor, t: Tensor) -> Tensor:
    """k with a dimension for each of t's behind."""
    return k.reshape(-1, *[1] * t.ndim)


def _pairs(f: Tensor, y: Tensor, quadrature: str, panels: int) -> FunctionPairs:
    return _split(f.float()[..., None, None], y.float()[..., None, None], quadrature, panels)


def _split(x: Tensor, y: Tensor, quadrature: str, panels: int, grid: tuple[int, ...] = ()) -> FunctionPairs:
    return FunctionPairs(x, y, quadrature, panels, len(x) * 7 // 10, len(x) // 10, grid)
