"""Diffusion: a denoiser, the sampler's steps, and the whole trajectory as one causal equation.

An image x_0 and normal noise e are mixed by an angle t, `x = cos(t) x_0 + sin(t) e`. The network gives v, which is to
be `cos(t) e - sin(t) x_0`, so the denoised image is `D(x, t) = cos(t) x - sin(t) v(x, t)`. Sampling goes from noise,
t_0 = pi/2, to an image, t_N = 0, in N steps

    x_{n+1} = A_n x_n + B_n D(x_n, t_n) + s_n z_n,      z_n normal noise.

The trajectory y = (x_1, .., x_N) solves `y = G(y)`, where component n of G(y) depends on components < n alone once
the noise is drawn: Picard's iteration reaches it in at most N sweeps from any start (theorem `causal`, T8). A sweep
denoises all times at once.

Zappala, Levine, He, Rizvi, Levy, van Dijk: Operator Learning Meets Numerical Analysis, arXiv:2310.01618, appendix B.2;
Ho, Jain, Abbeel: Denoising Diffusion Probabilistic Models, 2020; Song, Meng, Ermon: Denoising Diffusion Implicit
Models, 2021; Salimans, Ho: Progressive Distillation for Fast Sampling of Diffusion Models, 2022, for v; Shih, Belkhale,
Ermon, Sadigh, Anari: Parallel Sampling of Diffusion Models, 2023, for the sweeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from deqops import EquilibriumLayer, Picard, Solver, Tolerance
from deqops._errors import InputError

FORMS = ("cumulative", "shifted")
_OCTAVES = 5


class DiffusionModel(nn.Module):
    """The denoiser D: a residual network on flattened images that knows how much noise there is.

    Args:
        size: pixels of an image.
        width: of the hidden states.
        blocks: residual two-layer networks, without norms: near an equilibrium these make bounds of slopes much wider.
    """

    def __init__(self, size: int, width: int = 192, blocks: int = 2) -> None:
        super().__init__()
        self.size = size
        self.inward, self.level = nn.Linear(size, width), nn.Linear(2 * _OCTAVES, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.outward = nn.Linear(width, size)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """D(x, t): (..., size), from x (..., size) and `embedded(t)`, whose first two columns are cos(t) and sin(t)."""
        return level[..., :1] * x - level[..., 1:2] * self.velocity(x, level)

    def velocity(self, x: Tensor, level: Tensor) -> Tensor:
        """v(x, t): (..., size)."""
        condition = nn.functional.silu(self.level(level))
        hidden = self.inward(x)
        for block in self.blocks:
            hidden = block(hidden, condition)
        velocity: Tensor = self.outward(hidden)
        return velocity


class Block(nn.Module):
    """`h + C silu(A h + B c)` with the condition c."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.condition = nn.Linear(width, width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, hidden: Tensor, condition: Tensor) -> Tensor:
        """(..., width)."""
        inner = self.first(hidden) + self.condition(condition)
        result: Tensor = hidden + self.second(nn.functional.silu(inner))
        return result


def embedded(angles: Tensor) -> Tensor:
    """cos(t), sin(t), cos(2t), sin(2t), cos(4t), ..: (..., 10) of angles (...)."""
    octaves = [2.0**k * angles for k in range(_OCTAVES)]
    return torch.stack([part for t in octaves for part in (t.cos(), t.sin())], dim=-1)


class Steps(NamedTuple):
    """The sampler's N steps, in float64: angles before each step and its coefficients A, B and s, each (N,)."""

    angles: Tensor
    state: Tensor
    image: Tensor
    noise: Tensor


def sampler_steps(steps: int, noise: float = 0.0) -> Steps:
    """The coefficients of N steps of equal angle.

    A step from t to t' has `s = noise (sin t' / sin t) sqrt(1 - cos^2 t / cos^2 t')`, `B = cos t' - A cos t` and
    `A = sqrt(sin^2 t' - s^2) / sin t`: DDIM with noise 0, DDPM's ancestral sampling with noise 1. All are in [0, 1].

    Raises:
        InputError: a number is out of range.
    """
    if steps < 1:
        raise InputError(f"steps: got {steps}; choose at least 1")
    if not 0 <= noise <= 1:
        raise InputError(f"noise: got {noise}; choose 0 (deterministic) to 1 (ancestral)")
    angles = math.pi / 2 * (1 - torch.arange(steps + 1, dtype=torch.float64) / steps)
    before, after = angles[:-1], angles[1:]
    s = noise * (after.sin() / before.sin()) * (1 - (before.cos() / after.cos()).square()).sqrt()
    state = (after.sin().square() - s.square()).clamp(min=0).sqrt() / before.sin()
    return Steps(before, state, after.cos() - state * before.cos(), s)


class Trajectory(nn.Module):
    """G of the equation for the trajectory: all N steps at once.

    Two forms with the same solution, both strictly causal:

    - "cumulative": x_{n+1} is written by all steps up to its own, `P_n x_0 + sum_{j <= n} W_nj D(x_j, t_j) + noise`, P
      and W from the products of the A that follow. What one time learns reaches all later ones in the same sweep.
    - "shifted": `A_n x_n + B_n D(x_n, t_n) + s_n z_n`: it reaches the next one only.

    Args:
        model: the denoiser.
        steps: N.
        noise: as for `sampler_steps`.
        form: as above.

    Raises:
        InputError: an argument is out of range.
    """

    level: Tensor
    image: Tensor  # cumulative: (N, N), strictly causal behind the shift; shifted: (N, 1)
    drawn: Tensor  # cumulative: (N, N + 1)
    state: Tensor  # shifted: (N, 1)
    noise: Tensor  # shifted: (N, 1)

    def __init__(self, model: DiffusionModel, steps: int, noise: float = 0.0, form: str = "cumulative") -> None:
        super().__init__()
        if form not in FORMS:
            raise InputError(f"form: got {form!r}; choose from {', '.join(FORMS)}")
        self.model, self.form = model, form
        chosen = sampler_steps(steps, noise)
        buffers = {"level": embedded(chosen.angles)}
        if form == "cumulative":
            buffers["image"], buffers["drawn"] = accumulated(chosen)
        else:
            buffers |= {name: getattr(chosen, name)[:, None] for name in ("state", "image", "noise")}
        for name, value in buffers.items():
            self.register_buffer(name, value.to(model.inward.weight))

    def forward(self, state: Tensor, draws: Tensor) -> Tensor:
        """G(y): (batch, N, size), from y and the draws (batch, N + 1, size): the start, then the steps' noise."""
        before = torch.cat([draws[:, :1], state[:, :-1]], dim=1)
        images: Tensor = self.model(before, self.level)
        if self.form == "cumulative":
            result = self.image @ images + self.drawn @ draws
        else:
            result = self.state * before + self.image * images + self.noise * draws[:, 1:]
        return result


def accumulated(steps: Steps) -> tuple[Tensor, Tensor]:
    """W (N, N) of the denoised images and (N, N + 1) of the draws: every x_{n+1} by all steps up to its own."""
    count = len(steps.state)
    carried = torch.zeros(count, count, dtype=torch.float64)  # [n, j]: the product of A over the steps j + 1 to n
    for n in range(count):
        carried[n, n] = 1
        carried[n, :n] = carried[n - 1, :n] * steps.state[n]
    start = carried[:, :1] * steps.state[0]
    return carried * steps.image, torch.cat([start, carried * steps.noise], dim=1)


def sampler(
    model: DiffusionModel,
    steps: int,
    noise: float = 0.0,
    *,
    form: str = "cumulative",
    solver: Solver | None = None,
    tolerance: Tolerance | None = None,
) -> EquilibriumLayer:
    """The layer that samples by sweeps: it takes draws and returns the trajectory, whose last component is the image.

    Args:
        model: the denoiser.
        steps: N; at most N + 1 sweeps are taken by Picard's iteration, the last of which only confirms.
        noise: as for `sampler_steps`.
        form: as for `Trajectory`.
        solver: None for `Picard()`.
        tolerance: None for relative 1e-3.
    """
    return EquilibriumLayer(
        Trajectory(model, steps, noise, form).eval(),
        solver=solver or Picard(),
        tolerance=tolerance or Tolerance(relative=1e-3),
        initial=Constant(steps),
        max_evaluations=2 * steps + 10,
    )


@dataclass(frozen=True)
class Constant:
    """The start of the sweeps: the trajectory that stays at its noise."""

    steps: int

    def __call__(self, draws: Tensor) -> Tensor:
        """(batch, N, size) of draws (batch, N + 1, size)."""
        return draws[:, :1].expand(-1, self.steps, -1).clone()


def sample_draws(count: int, steps: int, size: int, seed: int) -> Tensor:
    """Normal noise (count, N + 1, size): the starts, and the noise of the steps."""
    return torch.randn(count, steps + 1, size, generator=torch.Generator().manual_seed(seed))


def sample_sequentially(model: DiffusionModel, draws: Tensor, noise: float = 0.0) -> Tensor:
    """The trajectory (batch, N, size) step by step: what the sweeps replace.

    Args:
        model: the denoiser, in eval mode.
        draws: as for `Trajectory`, (batch, N + 1, size); they say how many steps there are.
        noise: as for `sampler_steps`.
    """
    steps = sampler_steps(draws.shape[1] - 1, noise)
    levels = embedded(steps.angles).to(draws)
    coefficients = torch.stack(steps[1:], dim=1).to(draws)
    x, trajectory = draws[:, 0], []
    with torch.no_grad():
        for place, (a, b, s) in enumerate(coefficients):
            x = a * x + b * model(x, levels[place]) + s * draws[:, place + 1]
            trajectory.append(x)
    return torch.stack(trajectory, dim=1)
