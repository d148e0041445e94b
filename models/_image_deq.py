"""A convolutional equilibrium model of images: `z = tanh(K z + U x + b)`.

Bai, Koltun, Kolter, *Multiscale deep equilibrium models*, NeurIPS 2020, at a single scale; with a penalty on the
Jacobian as in their *Stabilizing equilibrium models by Jacobian regularization*, ICML 2021.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deqops import Anderson, EquilibriumLayer, ImplicitAdjoint, Tolerance
from deqops._errors import InputError
from deqops._numbers import as_number, is_count

from ._classifier import Classifier, ZerosOf
from ._digit_images import CLASSES, SIDE

TOLERANCE = Tolerance(relative=1e-3)


class ImageStep(nn.Module):
    """`G(z, x) = tanh(K z + U x + b)`, K and U convolutions of 3 x 3; K starts as a contraction."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.state = nn.Conv2d(channels, channels, 3, padding=1)
        self.input = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        with torch.no_grad():
            self.state.weight.mul_(0.5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        """(batch, channels, height, width); x: (batch, 1, height, width)."""
        return torch.tanh(self.state(z) + self.input(x))


class ImageDEQ(Classifier):
    """Scores of 8 x 8 images read off the equilibrium of an `ImageStep`.

    Args:
        channels: of the state.
        rate: `||K||_2 <= rate` on 8 x 8, by a parametrisation; below 1 for a contraction (theorem T1 `picard`).
            Infinity leaves K free, and nothing is promised.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications of G (a baseline).

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, channels: int = 8, rate: float = 0.9, steps: int = 0) -> None:
        check_image(channels, rate, steps)
        step = ImageStep(channels)
        if rate < math.inf:
            from deqops.verify.contractive import bounded

            bounded(step.state, rate, size=SIDE)
        super().__init__(image_layer(step, channels), channels * math.prod(SIDE), CLASSES, steps)


def image_layer(operator: nn.Module, channels: int) -> EquilibriumLayer:
    """Solved and differentiated by Anderson's method, from zeros (batch, channels, 8, 8)."""
    solver = Anderson(memory=5)
    adjoint = ImplicitAdjoint(solver, TOLERANCE, max_evaluations=200, derivatives=1)
    return EquilibriumLayer(operator, solver, adjoint, TOLERANCE, ZerosOf((channels, *SIDE)), max_evaluations=100)


def check_image(channels: int, rate: float, steps: int) -> None:
    """Raises InputError where an option is out of range."""
    if not is_count(channels, 1):
        raise InputError(f"channels: got {channels!r}; choose a whole number of at least 1")
    if not as_number(rate) > 0:
        raise InputError(f"rate: got {rate!r}; choose a positive bound, below 1 for a contraction")
    if not is_count(steps):
        raise InputError(f"steps: got {steps!r}; choose 0 for the equilibrium, or a number of applications")
