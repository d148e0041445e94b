"""The normalised adjacency of a graph as a sparse matrix, for operators that are applied to it many times."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from deqops._operators import hooks_of

Image = Callable[[Tensor], Tensor]
DTYPES = (torch.float32, torch.float64)
DEVICES = ("cpu", "cuda")


class Propagation:
    """`Z -> A Z`, A the symmetrically normalised adjacency with self loops, `A = D^-1/2 (I + E) D^-1/2`.

    It is PyG's `gcn_norm` of the edges, in another order of summation. A is built once for the first state's nodes
    and dtype: a product with it takes a tenth of the time of gathering, weighing and adding up the messages.

    Args:
        edges: (2, edges) int64, sources and targets.
    """

    def __init__(self, edges: Tensor) -> None:
        self._edges = edges
        self._built: tuple[int, torch.dtype] | None = None
        self._weights: Tensor | None = None
        self._matrices: dict[bool, Tensor] = {}

    def applies(self, state: Tensor) -> bool:
        """Whether there is such a product for this state, here: not under autocast or a transform of torch.func."""
        kind = state.device.type
        fits = state.ndim == 2 and state.dtype in DTYPES and kind in DEVICES and state.device == self._edges.device
        inside = torch._C._functorch.maybe_current_level() is not None or torch.compiler.is_compiling()
        return fits and not inside and not torch.is_autocast_enabled(kind)

    def __call__(self, state: Tensor) -> Tensor:
        """A Z: (nodes, columns); differentiable in Z, as often as wanted, backward and forward."""
        if not self.is_built_for(state):
            self._build(len(state), state.dtype)
        if torch.is_grad_enabled() or torch.autograd.forward_ad._current_level >= 0:
            product: Tensor = _Product.apply(self, False, state)  # type: ignore[no-untyped-call]
            return product
        return self.matrix(transposed=False) @ state

    def is_built_for(self, state: Tensor) -> bool:
        """Whether A is there for as many nodes and this dtype."""
        return self._built == (len(state), state.dtype)

    def matrix(self, *, transposed: bool) -> Tensor:
        """A or its transpose, (nodes, nodes) in compressed rows."""
        if transposed not in self._matrices:
            self._matrices[transposed] = self._in_rows(*(self._ends if transposed else self._ends.flip(0)))
        return self._matrices[transposed]

    def _build(self, nodes: int, dtype: torch.dtype) -> None:
        from torch_geometric.nn.conv.gcn_conv import gcn_norm

        ends, self._weights = gcn_norm(self._edges, num_nodes=nodes, dtype=dtype)
        lowest, highest = ends.aminmax()
        if int(lowest) < 0 or int(highest) >= nodes:
            raise RuntimeError(f"edges between {int(lowest)} and {int(highest)}, of {nodes} nodes")
        self._ends, self._built, self._matrices = ends, (nodes, dtype), {}

    def _in_rows(self, row: Tensor, column: Tensor) -> Tensor:
        """The matrix with the weights at (row, column); those at the same place are added up by every product."""
        if self._built is None or self._weights is None:
            raise RuntimeError("a matrix is asked for before it is built")
        nodes = self._built[0]
        order = torch.argsort(row, stable=True)
        starts = torch.zeros(nodes + 1, dtype=torch.int64, device=row.device)
        torch.cumsum(torch.bincount(row, minlength=nodes), 0, out=starts[1:])
        index = torch.int32 if len(row) < 2**31 else torch.int64
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls these matrices a beta
            return torch.sparse_csr_tensor(
                starts.to(index),
                column[order].to(index),
                self._weights[order],
                (nodes, nodes),
                check_invariants=False,
            )


class _Product(torch.autograd.Function):
    """`A Z` or `A^T Z`; torch's own derivatives of products with such matrices are slow or missing."""

    @staticmethod
    def forward(propagation: Propagation, transposed: bool, dense: Tensor) -> Tensor:
        return propagation.matrix(transposed=transposed) @ dense

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.propagation, ctx.transposed, _ = inputs

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, Tensor]:
        product: Tensor = _Product.apply(ctx.propagation, not ctx.transposed, gradient)  # type: ignore[no-untyped-call]
        return None, None, product

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        product: Tensor = _Product.apply(ctx.propagation, ctx.transposed, tangents[2])  # type: ignore[no-untyped-call]
        return product

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        propagation, transposed, dense = arguments
        stacked = dense.movedim(in_dims[2], 2)  # (nodes, columns, batch)
        product: Tensor = _Product.apply(propagation, transposed, stacked.flatten(1))  # type: ignore[no-untyped-call]
        return product.reshape(-1, *stacked.shape[1:]), 2


def convolved(convolution: nn.Module, edges: Tensor) -> Image:
    """`Z -> A Z W^T + b`, what a `GCNConv` with the usual options does, with A built once.

    W and b are read at each call, so that gradients pass through them. A layer with other options, or whose messages
    somebody watches or changes, by a hook or an explainer, is called as it is. One that is bounded for a graph refuses
    every other, as ever.
    """
    propagation = Propagation(edges)

    def image(state: Tensor) -> Tensor:
        guards = _guards(convolution)
        watched = len(hooks_of(convolution)) > len(guards) or convolution.explain
        if watched or not propagation.applies(state) or not _is_usual(convolution):
            whole: Tensor = convolution(state, edges)
            return whole
        if not propagation.is_built_for(state):
            for refuse_other_graphs in guards:
                refuse_other_graphs(convolution, (state, edges), {})
        product = propagation(convolution.lin(state))  # type: ignore[operator]
        return product if convolution.bias is None else product + convolution.bias  # type: ignore[operator]

    return image


def _is_usual(convolution: nn.Module) -> bool:
    """Its A is that of `Propagation`."""
    usual = convolution.normalize and convolution.add_self_loops and not convolution.improved
    return bool(usual) and convolution.flow == "source_to_target" and convolution.aggr == "add"


def _guards(convolution: nn.Module) -> list[Any]:
    """The hooks by which a layer that is bounded for a graph refuses every other."""
    hooks = list(convolution._forward_pre_hooks.values())
    if not hooks:
        return []
    from deqops.verify.contractive._graph_layer import SameGraph

    return [hook for hook in hooks if isinstance(hook, SameGraph)]
