"""The monotone operator network: `z = relu(W z + U x + b)` with `I - W` strongly monotone.

Winston and Kolter, *Monotone operator equilibrium networks*, NeurIPS 2020, sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from deqops import EquilibriumLayer, ImplicitAdjoint, NewtonKrylov, PeacemanRachford, ProximalLayer, Tolerance, prox
from deqops._errors import InputError
from deqops._numbers import as_number, is_count

from ._classifier import Classifier, ZerosOf

MAX_EVALUATIONS = 2000
TOLERANCE = Tolerance(relative=1e-3)


class MonotoneNetwork(Classifier):
    """Class scores read off the equilibrium `z = relu(W z + U x + b)`.

    `W = (1 - m) I - A^T A + B - B^T`, the weight of floats included, so that `I - W >= m I`: there is one equilibrium
    for every x whatever `||W||` is (theorem T5 `monotone`). The plain iteration `z <- G(z)` converges for small
    `||W||` alone; Peaceman-Rachford splitting converges always.

    Args:
        features: entries of an x.
        classes: columns of the scores.
        width: entries of z.
        margin: m, above 0 and below 1.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications of G (a baseline).

    Raises:
        InputError: a number is out of range.
    """

    def __init__(self, features: int, classes: int, *, width: int = 64, margin: float = 0.1, steps: int = 0) -> None:
        check_monotone(width, margin, steps)
        adjoint = ImplicitAdjoint(NewtonKrylov(), TOLERANCE, max_evaluations=MAX_EVALUATIONS, derivatives=1)
        layer = EquilibriumLayer(
            monotone_layer(features, width, margin),
            PeacemanRachford(),
            adjoint,
            TOLERANCE,
            ZerosOf((width,)),
            max_evaluations=MAX_EVALUATIONS,
        )
        super().__init__(layer, width, classes, steps)

    @property
    def proximal(self) -> ProximalLayer:
        """G with its W, U and b."""
        operator = self.operator
        assert isinstance(operator, ProximalLayer)
        return operator

    def iterates(self, x: Tensor) -> Iterator[Tensor]:
        """The states of Peaceman-Rachford splitting with step `1 / ||I - W||`, in float64, without end."""
        form = self.proximal.proximal_form(x)
        shifted = torch.eye(len(form.weight), dtype=torch.float64) - form.weight.double()
        step = float(1 / torch.linalg.matrix_norm(shifted, 2))
        inverse = torch.linalg.inv(torch.eye(len(shifted), dtype=torch.float64) + step * shifted)
        offset = form.offset.double()
        u = torch.zeros_like(offset)
        while True:
            state = prox(form.activation, u, step)
            yield state.to(form.offset.dtype)
            u = u - 2 * state + 2 * (2 * state - u + step * offset) @ inverse.mT


def monotone_layer(features: int, width: int, margin: float) -> ProximalLayer:
    """`relu(W z + U x + b)`, A and B of W drawn as torch draws a linear layer's weights."""
    from deqops.verify.contractive import MonotoneWeight

    inner = nn.Linear(features, width)
    layer = ProximalLayer(nn.Parameter(torch.zeros(width, width)), inner.weight, inner.bias)
    parametrize.register_parametrization(layer, "W", MonotoneWeight(margin))
    with torch.no_grad():
        for stored in layer.parametrizations.W.parameters():  # type: ignore[union-attr]
            stored.uniform_(-(width**-0.5), width**-0.5)
    return layer


def check_monotone(width: int, margin: float, steps: int) -> None:
    """Raises InputError where an option is out of range."""
    if not is_count(width, 1):
        raise InputError(f"width: got {width!r}; choose a whole number of at least 1")
    if not 0 < as_number(margin) < 1:
        raise InputError(f"margin: got {margin!r}; choose a number between 0 and 1")
    if not is_count(steps):
        raise InputError(f"steps: got {steps!r}; choose 0 for the equilibrium, or a number of applications")
