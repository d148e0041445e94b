"""Classes read off an equilibrium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from deqops import EquilibriumLayer


class Classifier(nn.Module):
    """Scores `R z + r` of the equilibrium `z = G(z, x)`, one problem for each example.

    Args:
        layer: solves for z, one tensor.
        unknowns: entries of z for one example.
        classes: columns of the scores.
        steps: 0 solves to the equilibrium; n > 0 stops after n applications of G (a baseline).
    """

    def __init__(self, layer: EquilibriumLayer, unknowns: int, classes: int, steps: int = 0) -> None:
        super().__init__()
        self.layer, self.steps = layer, steps
        self.readout = nn.Linear(unknowns, classes)

    @property
    def operator(self) -> nn.Module:
        """G(state, x): what is solved, exported and certified."""
        return cast(nn.Module, self.layer.operator)

    def initial_state(self, x: Tensor) -> Tensor:
        """Where the iteration starts."""
        start: Tensor = self.layer.initial_state(x)
        return start

    def state(self, x: Tensor) -> Tensor:
        """z: the equilibrium, or the state after `steps` applications.

        In training an example whose equilibrium was not found gives the state that was reached; else it raises
        ConvergenceError.
        """
        if self.steps == 0:
            solved: Tensor = self.layer.solve(x, throw=not self.training).value
            return solved
        return next(islice(self.applications(x), self.steps, None))

    def applications(self, x: Tensor) -> Iterator[Tensor]:
        """The states `z <- G(z, x)`, without end."""
        at = getattr(self.operator, "at", None)
        image_of = at(x) if at is not None else lambda z: self.operator(z, x)
        state = self.initial_state(x)
        while True:
            yield state
            state = image_of(state)

    def iterates(self, x: Tensor) -> Iterator[Tensor]:
        """The states of the iteration that finds the equilibrium, without end."""
        return self.applications(x)

    def forward(self, x: Tensor) -> Tensor:
        """Scores: (batch, classes)."""
        return self.scores(self.state(x))

    def scores(self, state: Tensor) -> Tensor:
        """The read-out of a state."""
        scores: Tensor = self.readout(state.flatten(1))
        return scores


@dataclass(frozen=True)
class ZerosOf:
    """The start of the iteration: zeros of this shape for each example."""

    shape: tuple[int, ...]

    def __call__(self, x: Tensor) -> Tensor:
        """Zeros (batch, *shape) of the inputs' dtype and device."""
        return x.new_zeros(len(x), *self.shape)


def split_accuracies(scores: Tensor, data: Any) -> dict[str, float]:
    """Part of the examples classified correctly in the training, validation and test set; empty ones are left out.

    Args:
        scores: (examples, classes).
        data: with `y` and the masks `train_mask`, `val_mask`, `test_mask`, (examples,) each.
    """
    right = (scores.argmax(dim=1) == data.y).double()
    masks = {"train": data.train_mask, "validation": data.val_mask, "test": data.test_mask}
    return {name: float(right[mask].mean()) for name, mask in masks.items() if bool(mask.any())}


def classifier_curve(model: Classifier, data: Any, iterations: int = 60) -> list[dict[str, float]]:
    """Accuracies of the read-out and residual after 0 to `iterations` steps of the model's own iteration.

    Args:
        model: it is put into eval mode.
        data: `x`, `y` and masks.
        iterations: the last number of steps.

    Returns:
        list[dict[str, float]]: "iteration", accuracies, and "residual", the largest l2 norm of `G(z) - z` of an
        example, of the floating-point program; a row for each number of steps up to the last finite state.
    """
    return _curve(model, model.eval().iterates, data, iterations)


def picard_curve(model: Classifier, data: Any, iterations: int = 60) -> list[dict[str, float]]:
    """The same for the plain iteration `z <- G(z)`, which need not converge where another one does."""
    return _curve(model.eval(), model.applications, data, iterations)


def _curve(
    model: Classifier, states: Callable[[Tensor], Iterator[Tensor]], data: Any, iterations: int
) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    with torch.no_grad():
        for count, state in enumerate(islice(states(data.x), iterations + 1)):
            change = (model.operator(state, data.x) - state).double().flatten(1)
            residual = float(change.norm(dim=1).max())
            if not residual < float("inf"):
                break
            rows.append({"iteration": count, **split_accuracies(model.scores(state), data), "residual": residual})
    return rows
