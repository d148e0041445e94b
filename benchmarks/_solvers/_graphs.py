"""Problems on graphs: a random one, and Cora's with a trained PIGN. Each is one problem."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ._dense import orthogonal, randn
from ._problem import Problem, reference

EPOCHS = 20


def random_edges(nodes: int, edges: int) -> Tensor:
    """Sorted by target, (2, edges)."""
    ends = torch.randint(0, nodes, (2, edges), generator=torch.Generator().manual_seed(0))
    return ends[:, torch.argsort(ends[1], stable=True)]


def means(ends: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """The matrix of the means over the edges into each node, (nodes, nodes) float32, and its values, (edges,)."""
    degree = torch.bincount(ends[1], minlength=nodes)
    values = (1.0 / degree.clamp(min=1).double())[ends[1]].float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls these matrices a beta
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), degree.cumsum(0)])
        return torch.sparse_csr_tensor(starts, ends[0], values, (nodes, nodes), check_invariants=False), values


def graph_map(quick: bool) -> Problem:
    """`z = tanh(0.9 mean_neighbours(z) W + x)`, W orthogonal: rate 0.9 in the largest norm of a node."""
    nodes, edges, width = (50, 200, 4) if quick else (20_000, 100_000, 64)
    ends = random_edges(nodes, edges)
    matrix, values = means(ends, nodes)
    w, x = (0.9 * orthogonal(width, 9)).float(), randn(nodes, width, seed=10).float()

    def in_jax(jax: object) -> object:
        source, target, weights = ends[0].numpy(), ends[1].numpy(), values.numpy()[:, None]
        weight, offset = w.numpy(), x.numpy()

        def operator(z: object) -> object:
            total = jax.ops.segment_sum(z[source] * weights, target, nodes, indices_are_sorted=True)
            return jax.numpy.tanh(total @ weight + offset)

        return operator

    start = torch.zeros_like(x)
    wide, w64, x64 = matrix.double(), w.double(), x.double()
    truth = reference(lambda z: torch.tanh(wide @ z @ w64 + x64), start)
    title = f"graph map, {nodes} nodes, {edges} edges, {width} features"
    return Problem(
        "c",
        title,
        lambda z: torch.tanh(matrix @ z @ w + x),
        start,
        truth,
        in_jax,
        batch_dims=0,
        most=200,
        in_scipy=False,
    )


def cora(planetoid: Path, quick: bool) -> Problem:
    """A PIGN after a few epochs; f(X) is computed once, for every method alike.

    Raises:
        InputError: the data are not there; the message says which file was looked for.
    """
    from deqops.models import CITATION, planetoid_graph, train_pign

    data = planetoid_graph("Cora", planetoid)
    model = train_pign(data, replace(CITATION, epochs=2 if quick else EPOCHS, select_every=0), seed=0).model
    x, edges = data.x, data.edge_index
    with torch.no_grad():
        operator = model.operator.at_inputs(x, edges)
        wide = model.double().operator.at_inputs(x.double(), edges)
        start = torch.zeros(len(x), model.width)
        truth = reference(wide, start)
        offset = model.operator.f(x.double(), edges).float()
    model.float()

    def in_jax(jax: object) -> object:
        return propagation(jax, edges, offset, CITATION.limit)

    title = f"PIGN on Cora, propagation of rate {CITATION.limit}, {len(x)} x {model.width}"
    return Problem("d", title, operator, start, truth, in_jax, batch_dims=0)


def propagation(jax: object, edges: Tensor, offset: Tensor, gain: float) -> object:
    """`z -> f + gain A z` with A's entries computed once, as the model does."""
    loops = torch.arange(len(offset))
    ends = torch.cat([edges, torch.stack([loops, loops])], dim=1)
    ends = ends[:, torch.argsort(ends[1], stable=True)]
    inverse = torch.bincount(ends[1]).double() ** -0.5
    weights = (inverse[ends[0]] * inverse[ends[1]]).float().numpy()[:, None]
    (source, target), added, nodes = ends.numpy(), offset.numpy(), len(offset)

    def operator(z: object) -> object:
        return added + gain * jax.ops.segment_sum(z[source] * weights, target, nodes, indices_are_sorted=True)

    return operator
