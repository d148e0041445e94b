"""How accuracy and residual of a trained network of nodes depend on the number of iterations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ._train import accuracies

if TYPE_CHECKING:
    from torch_geometric.data import Data


class NodeNetwork(Protocol):
    """A `PIGN` or an `ImplicitGraphNetwork`."""

    def eval(self) -> object:
        """Put it into eval mode."""

    def iterates(self, x: Tensor, edge_index: Tensor) -> Iterator[Tensor]:
        """The states from `Z = f(X)` on, without end."""

    def image_of(self, x: Tensor, edge_index: Tensor) -> Callable[[Tensor], Tensor]:
        """`Z -> G(Z)`."""

    def scores(self, state: Tensor) -> Tensor:
        """The read-out of a state."""


def by_iteration(model: NodeNetwork, data: Data, iterations: int = 60) -> list[dict[str, float]]:
    """Accuracies of the read-out and residual after 0 to `iterations` smoothed steps from `Z = f(X)`.

    Args:
        model: a `PIGN` or an `ImplicitGraphNetwork`; it is put into eval mode.
        data: as for `train_pign`.
        iterations: the last number of steps.

    Returns:
        list[dict[str, float]]: "iteration", "train", "validation", "test" (accuracies) and "residual", the l2
        norm of `G(Z) - Z` over all nodes, of the floating-point program.
    """
    model.eval()
    rows: list[dict[str, float]] = []
    with torch.no_grad():
        image_of = model.image_of(data.x, data.edge_index)
        for count, state in enumerate(islice(model.iterates(data.x, data.edge_index), iterations + 1)):
            residual = float((image_of(state) - state).double().norm())
            rows.append({"iteration": count, **accuracies(model.scores(state), data), "residual": residual})
    return rows
